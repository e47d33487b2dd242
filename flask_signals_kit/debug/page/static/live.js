/* Refresh what was recorded, once a second while the page is visible. Without this script, a link
   does it. */
"use strict";

const PAUSE = 1000;
let etag = null;

const refresh = async () => {
  const live = document.getElementById("live");
  const headers = etag ? { "If-None-Match": etag } : {};
  const response = await fetch(location.href, { headers, cache: "no-store" });
  if (response.status === 304) return;
  if (!response.ok) throw new Error(response.statusText);
  const isFirst = etag === null;
  etag = response.headers.get("ETag");
  const text = await response.text();
  if (isFirst) return; // the page itself is as new
  const found = new DOMParser().parseFromString(text, "text/html").getElementById("live");
  const focused = document.activeElement?.getAttribute("href");
  if (!found || live.contains(getSelection().isCollapsed ? null : getSelection().anchorNode)) return;
  live.replaceChildren(...found.childNodes);
  if (focused) live.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
};

const watch = async () => {
  if (document.visibilityState === "visible") {
    try {
      await refresh();
    } catch {
      document.documentElement.classList.remove("js"); // the server is gone: show the link
      return;
    }
  }
  setTimeout(watch, PAUSE);
};

if (document.querySelector("[data-live]")) watch();
