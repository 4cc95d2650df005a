// Runs before anything is shown, so that the page never appears in another theme than its reader's.
try {
  const { theme } = JSON.parse(localStorage.getItem("ilmari.settings") ?? "{}");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage, or with something else in it, the system's theme is right.
}
