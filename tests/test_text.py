"""TextStream: any split of the bytes gives the same text, and stop strings are never shown."""

import numpy as np
import pytest
from ersd._core import TextStream

ALPHABETS = ["ab", "aäß", "a€漢字", "a😀👩‍👩‍👧\U0010ffff", "a\x00 \n\u00a0é𝄞"]
STOPS = [
    ["ab"],
    ["aab", "aba"],
    ["b"],
    ["ä"],
    ["€", "漢字漢"],
    ["a😀"],
    ["aaaa", "aa€"],
    ["abcdefgh", "c"],
]


def random_text(rng, alphabet, n):
    """Returns a random text of n characters."""
    return "".join(rng.choice(list(alphabet), size=n))


def split(rng, data):
    """Cuts bytes at random places; some parts are empty."""
    ends = sorted(rng.integers(len(data) + 1, size=rng.integers(1, len(data) + 2)).tolist())
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def pushed(chunks, stop=()):
    """Returns the whole text of a stream, its text after each chunk, and whether it stopped."""
    stream, text, so_far = TextStream(list(stop)), "", []
    for chunk in chunks:
        text += stream.push(chunk)
        so_far.append(text)
    return text + stream.finish(), so_far, stream.stopped


def expected(chunks, stop):
    """Returns the text before the first complete stop string, and the chunk that completed it.

    If a chunk completes several stop strings, the one that begins first counts.
    """
    data = b""
    for i, chunk in enumerate(chunks):
        data += chunk
        found = [at for at in (data.find(s.encode()) for s in stop) if at >= 0]
        if found:
            return data[: min(found)].decode("utf-8", "replace"), i
    return data.decode("utf-8", "replace"), None


def certain(data, stop):
    """Returns the number of bytes that can be shown at once.

    The beginning of a stop string and an incomplete character at the end have to wait.
    """
    held = max(
        (
            n
            for text in map(str.encode, stop)
            for n in range(1, len(text))
            if data.endswith(text[:n])
        ),
        default=0,
    )
    return len(data[: len(data) - held].decode("utf-8", "ignore").encode())


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_any_split_gives_the_text(alphabet):
    """Each character is shown as a whole, as soon as its last byte comes."""
    rng = np.random.default_rng(len(alphabet))
    for _ in range(200):
        text = random_text(rng, alphabet, rng.integers(1, 30))
        for chunks in (split(rng, text.encode()), [bytes([byte]) for byte in text.encode()]):
            whole, so_far, stopped = pushed(chunks)
            assert (whole, stopped) == (text, False)
            for i, shown in enumerate(so_far):
                assert shown == b"".join(chunks[: i + 1]).decode("utf-8", "ignore")


INVALID = [
    bytes.fromhex(bad)
    for bad in [
        "ff",
        "80",
        "c080",
        "e282",
        "e228a1",
        "eda080",
        "e09fbf",
        "f09f98",
        "f4908080",
        "f0808080",
    ]
]


@pytest.mark.parametrize("data", INVALID)
def test_ill_formed_bytes(data):
    """Each maximal ill-formed part becomes one U+FFFD, as in Python, however it is split."""
    for before in (b"", b"a", "é".encode(), b"\xf0\x9f"):
        for after in (b"", b"z", "😀".encode(), b"\x80"):
            whole = before + data + after
            for cut in range(len(whole) + 1):
                assert pushed([whole[:cut], whole[cut:]])[0] == whole.decode("utf-8", "replace")


def test_random_bytes():
    """Random bytes, many of which look like UTF-8, give the text that Python decodes."""
    rng = np.random.default_rng(0)
    likely = np.frombuffer(
        b"a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc1\xc2\xdf\xe0\xe2\xed\xef\xf0\xf1\xf4\xf5\xff", np.uint8
    )
    for _ in range(5000):
        n = rng.integers(1, 20)
        data = bytes(
            rng.choice(likely, size=n)
            if rng.random() < 0.7
            else rng.integers(256, size=n, dtype=np.uint8)
        )
        whole, so_far, _ = pushed(split(rng, data))
        assert whole == data.decode("utf-8", "replace")
        assert all(whole.startswith(shown) for shown in so_far)


@pytest.mark.parametrize("stop", STOPS)
def test_stop_strings(stop):
    """The text ends before the stop string, and each step shows all that is certain."""
    rng = np.random.default_rng(len(str(stop)))
    alphabet, n_stopped = sorted({character for text in stop for character in text} | {"a", "é"}), 0
    for _ in range(500):
        chunks = split(rng, random_text(rng, alphabet, rng.integers(1, 20)).encode())
        whole, so_far, stopped = pushed(chunks, stop)
        text, end = expected(chunks, stop)
        assert (whole, stopped) == (text, end is not None)
        n_stopped += stopped
        for i, shown in enumerate(so_far):
            data = b"".join(chunks[: i + 1])
            done = stopped and i >= end
            assert shown.encode() == (text.encode() if done else data[: certain(data, stop)])
    assert 20 < n_stopped < 480


def test_stop_strings_amid_random_bytes():
    """Stop strings are found among ill-formed bytes."""
    rng = np.random.default_rng(1)
    parts = [b"a", b"b", b"\xe2", b"\x82", b"\xac", b"\xf0\x9f", b"\xff", "€".encode(), b"ab"]
    n_stopped = 0
    for _ in range(3000):
        chunks = [parts[i] for i in rng.integers(len(parts), size=rng.integers(1, 15))]
        for stop in (["ab"], ["€a", "bab"], ["b€"]):
            whole, so_far, stopped = pushed(chunks, stop)
            text, end = expected(chunks, stop)
            assert (whole, stopped) == (text, end is not None)
            n_stopped += stopped
            assert all(whole.startswith(shown) for shown in so_far)
    assert 1000 < n_stopped < 8000


def test_nothing_comes_after_a_stop():
    """After a stop, push() and finish() return no text."""
    stream = TextStream(["END"])
    assert [stream.push(chunk) for chunk in (b"one E", b"N", b"Dtwo", b"three")] == [
        "one ",
        "",
        "",
        "",
    ]
    assert stream.stopped
    assert stream.finish() == ""


def test_held_back_text_comes_at_the_end():
    """finish() shows the beginning of a stop string and an incomplete character."""
    stream = TextStream(["END"])
    assert stream.push(b"the EN") == "the "
    assert not stream.stopped
    assert stream.finish() == "EN"
    stream = TextStream()
    assert stream.push(b"x\xe2\x82") == "x"
    assert stream.finish() == "\ufffd"
