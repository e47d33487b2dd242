/* Refresh what was recorded, once a second while the page is visible. Without this script, a link
   does it. */
"use strict";

const PAUSE = 1000;
let etag = null;

const isSelected = (element) => {
  const selection = getSelection();
  return !selection.isCollapsed && element.contains(selection.anchorNode);
};

const refresh = async () => {
  const headers = etag ? { "If-None-Match": etag } : {};
  const response = await fetch(location.href, { headers, cache: "no-store" });
  if (response.status === 304) return;
  const text = await response.text();
  const found = new DOMParser().parseFromString(text, "text/html").getElementById("live");
  const live = document.getElementById("live");
  if (!found || isSelected(live)) return;
  etag = response.headers.get("ETag");
  if (live.innerHTML === found.innerHTML) return;
  const focused = live.contains(document.activeElement)
    ? document.activeElement.getAttribute("href")
    : null;
  live.replaceChildren(...found.childNodes);
  if (focused) live.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
};

const watch = async () => {
  if (document.visibilityState === "visible") {
    let isConnected = true;
    try {
      await refresh();
    } catch {
      isConnected = false; // the server is restarting, or gone: show the link, and try again
    }
    document.documentElement.classList.toggle("js", isConnected);
  }
  setTimeout(watch, PAUSE);
};

if (document.querySelector("[data-live]")) watch();
