// Values that outlive the page. A browser that forbids storage behaves as if nothing were stored.

const stores = { tab: () => sessionStorage, browser: () => localStorage };

/** Returns a stored text, or "". The place is "tab" (until the tab is closed) or "browser". */
export function load(place, key) {
  try {
    return stores[place]().getItem(`ersd.${key}`) ?? "";
  } catch {
    return "";
  }
}

/** Stores a text; an empty one is removed. */
export function save(place, key, text) {
  try {
    if (text) stores[place]().setItem(`ersd.${key}`, text);
    else stores[place]().removeItem(`ersd.${key}`);
  } catch {
    // It then lasts only as long as the page.
  }
}
