// Sets the theme before anything is drawn: this is the one script that blocks.
"use strict";
try {
  const theme = localStorage.getItem("ersd.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system's theme stays.
}
