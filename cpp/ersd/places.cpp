// The choice of places, and of what is dropped for others.
#include "ersd/places.h"

#include <algorithm>

namespace ersd {

int32_t n_common(std::span<const Token> a, std::span<const Token> b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
  return static_cast<int32_t>(end - a.begin());
}

Places::Places(LanguageModel& target, LanguageModel* draft, const Options& options)
    : users_(static_cast<size_t>(target.n_sequences())),
      used_at_(users_.size()),
      n_cells_(options.n_cells) {
  const auto add = [&](LanguageModel& model, bool keeps) {
    caches_.push_back({&model, std::max(model.n_free() - n_cells_, 0), keeps});
  };
  add(target, options.target_keeps);
  if (draft) add(*draft, options.draft_keeps);
}

bool Places::take(Sequence& sequence, int32_t n_spare) {
  const auto tokens = sequence.tokens(), history = tokens.first(tokens.size() - 1);
  // The text of rejection sampling depends on every bit, so nothing is reused for it.
  const int32_t source = is_race(sequence.options().method) ? find_source(history) : -1;
  int32_t place = choose(history, source);
  if (place < 0) return false;
  const bool shares = source >= 0 && place != source;
  shares ? clear(place) : cut(place, history);
  while (!fits_with(tokens, shares ? source : place, n_spare)) {
    if (evict_except(place, source)) continue;
    if (std::ranges::any_of(users_, [](const auto* user) { return user != nullptr; })) return false;
    if (place == source || source < 0) break;
    cut(place = source, history);  // only this place holds tokens, so it has room enough
  }
  if (source >= 0 && place != source) share(source, place, history);
  users_[static_cast<size_t>(place)] = &sequence;
  sequence.set_place(place);
  ++n_uses_;
  used_at_[static_cast<size_t>(place)] = n_uses_;
  if (source >= 0) used_at_[static_cast<size_t>(source)] = n_uses_;
  drop_idle();
  return true;
}

void Places::leave(Sequence& sequence) {
  const auto place = static_cast<size_t>(sequence.place());
  users_[place] = nullptr;
  used_at_[place] = ++n_uses_;
}

// The place with the longest common prefix; -1 if none has any.
int32_t Places::find_source(std::span<const Token> history) const {
  int32_t best = -1, longest = 0;
  for (int32_t place = 0; place < size(); ++place) {
    const int32_t n = n_common(history, caches_.front().model->cached(place));
    if (n > longest || (n == longest && n > 0 && is_used(best) && !is_used(place)))
      best = place, longest = n;
  }
  return best;
}

// The idle place that a text takes; -1 if none is idle.
int32_t Places::choose(std::span<const Token> history, int32_t source) const {
  if (source < 0) return oldest_idle(-1);
  const auto cached = caches_.front().model->cached(source);
  const bool is_used_up = n_common(history, cached) == static_cast<int32_t>(cached.size());
  const bool keeps = caches_.front().keeps && can_share_;
  if (!is_used(source) && (is_used_up || !keeps)) return source;
  const int32_t other = oldest_idle(source);
  return other >= 0 ? other : is_used(source) ? -1 : source;
}

int32_t Places::oldest_idle(int32_t except) const {
  int32_t oldest = -1;
  for (int32_t place = 0; place < size(); ++place)
    if (!is_used(place) && place != except &&
        (oldest < 0 ||
         used_at_[static_cast<size_t>(place)] < used_at_[static_cast<size_t>(oldest)]))
      oldest = place;
  return oldest;
}

int32_t Places::last_used() const {
  int32_t last = -1;
  for (int32_t place = 0; place < size(); ++place)
    if (!is_used(place) &&
        (last < 0 || used_at_[static_cast<size_t>(place)] > used_at_[static_cast<size_t>(last)]))
      last = place;
  return last;
}

bool Places::fits_in(const Cache& cache, int32_t n_more) const {
  int64_t wanted = n_more;
  for (const Sequence* user : users_)
    if (user)
      wanted += static_cast<int64_t>(user->tokens().size()) - cache.model->n_cached(user->place());
  return wanted <= n_free(cache);
}

bool Places::fits(int32_t n_more) const {
  return std::ranges::all_of(caches_, [&](const Cache& cache) { return fits_in(cache, n_more); });
}

// Whether the tokens fit that are not in common with what one place holds.
bool Places::fits_with(std::span<const Token> tokens, int32_t holder, int32_t n_spare) const {
  return std::ranges::all_of(caches_, [&](const Cache& cache) {
    const int32_t n_held = n_common(tokens, cache.model->cached(holder));
    return fits_in(cache, static_cast<int32_t>(tokens.size()) - n_held + n_spare);
  });
}

bool Places::evict_except(int32_t place, int32_t other) {
  int32_t oldest = -1;
  for (int32_t p = 0; p < size(); ++p) {
    const bool holds = std::ranges::any_of(
        caches_, [&](const Cache& cache) { return cache.model->n_cached(p) > 0; });
    if (holds && !is_used(p) && p != place && p != other &&
        (oldest < 0 || used_at_[static_cast<size_t>(p)] < used_at_[static_cast<size_t>(oldest)]))
      oldest = p;
  }
  if (oldest >= 0) clear(oldest);
  return oldest >= 0;
}

void Places::clear_idle() {
  for (int32_t place = 0; place < size(); ++place)
    if (!is_used(place)) clear(place);
}

int32_t Places::n_cached(std::span<const Token> text) const {
  int32_t most = 0;
  for (int32_t place = 0; place < size(); ++place)
    most = std::max(most, n_common(text, caches_.front().model->cached(place)));
  return most;
}

// Drops what a place holds beyond the common prefix.
void Places::cut(int32_t place, std::span<const Token> history) {
  for (const Cache& cache : caches_)
    cache.model->rollback(n_common(history, cache.model->cached(place)), place);
}

void Places::clear(int32_t place) {
  for (const Cache& cache : caches_) cache.model->rollback(0, place);
  used_at_[static_cast<size_t>(place)] = 0;
}

// Empties the idle places of the models that do not keep their tokens there.
void Places::drop_idle() {
  for (const Cache& cache : caches_)
    for (int32_t place = 0; place < size(); ++place)
      if (!cache.keeps && !is_used(place)) cache.model->rollback(0, place);
}

void Places::share(int32_t from, int32_t to, std::span<const Token> history) {
  for (const Cache& cache : caches_) {
    const int32_t n = n_common(history, cache.model->cached(from));
    if (n > 0 && !cache.model->share(from, to, n)) can_share_ = false;
  }
}

}  // namespace ersd
