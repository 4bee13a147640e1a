// Shows every error that nothing else on the page reports. Not a module, so that it also runs where the modules do not load.
{
  const show = (message) => {
    const status = document.getElementById("status");
    status.className = "status wrong";
    status.textContent = message;
  };
  // Captured: errors of elements, such as a script that cannot be loaded, do not bubble.
  addEventListener("error", ({ target, message }) => {
    if (target instanceof HTMLScriptElement || target instanceof HTMLLinkElement) show(`${target.src || target.href} cannot be loaded`);
    else if (message) show(message);
  }, true);
  addEventListener("unhandledrejection", ({ reason }) => show(reason?.message ?? String(reason)));
}
