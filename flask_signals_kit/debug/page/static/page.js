/* The page works without this script. If all signals are on one page, the script filters them while
   you type; otherwise the server filters. It also adds keyboard shortcuts. */
"use strict";

document.documentElement.classList.add("js");

const form = document.getElementById("filters");
if (form) {
  const search = document.getElementById("q");
  const cards = [...document.querySelectorAll("article.signal")];
  const links = cards.map((card) => card.querySelector("h3 a"));
  const complete = "complete" in form.dataset;
  const twin = document.getElementById("twin");
  const twinPath = twin.getAttribute("href").split("?")[0];
  const path = form.getAttribute("action");

  const chosen = (name) =>
    [...form.querySelectorAll(`input[name=${name}]:checked`)].map((box) => box.value);

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const origins = chosen("origin");
    const traits = chosen("only");
    let shown = 0;
    for (const card of cards) {
      const has = card.dataset.traits.split(" ");
      const wanted =
        (!origins.length || origins.includes(card.dataset.origin)) &&
        traits.every((trait) => has.includes(trait)) &&
        words.every((word) => card.dataset.text.includes(word));
      card.hidden = !wanted;
      shown += wanted;
    }
    for (const group of document.querySelectorAll(".group")) {
      group.hidden = !group.querySelector("article.signal:not([hidden])");
    }
    document.getElementById("nothing").hidden = shown > 0;
    document.getElementById("found").textContent =
      `${shown === cards.length ? "All" : `${shown} of`} ${cards.length} signals`;
    remember(new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim())));
  };

  /* Keep the filters in the address, in the link to the JSON and in the links to signals. The
     address changes only after a pause, or when the user leaves the page: some browsers request the
     icon again whenever it changes. */
  let pause;
  let suffix = location.search;
  const remember = (query) => {
    suffix = `${query}` && `?${query}`;
    document.getElementById("clear").hidden = !suffix;
    twin.setAttribute("href", twinPath + suffix);
    for (const link of links) link.search = suffix;
    clearTimeout(pause);
    pause = setTimeout(readdress, 250);
  };
  const readdress = () => {
    clearTimeout(pause);
    const address = path + suffix + location.hash;
    if (suffix !== location.search) history.replaceState(null, "", address);
  };
  if (complete) {
    for (const leaving of ["click", "pagehide"]) addEventListener(leaving, readdress, true);
  }

  /* Move the focus to the next or previous visible signal. */
  const move = (step) => {
    const shown = links.filter((link) => !link.closest("article.signal").hidden);
    const current = document.activeElement.closest("article.signal");
    const at = shown.findIndex((link) => link.closest("article.signal") === current);
    const next = at < 0 ? (step > 0 ? 0 : shown.length - 1) : at + step;
    shown[next]?.focus();
    shown[next]?.closest("article.signal").scrollIntoView({ block: "nearest" });
  };

  if (complete) {
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      filter();
      move(1);
    });
    document.getElementById("clear").addEventListener("click", (event) => {
      event.preventDefault();
      for (const box of form.querySelectorAll("input:checked")) box.checked = false;
      search.value = "";
      search.focus();
      filter();
    });
  } else {
    form.addEventListener("change", (event) => {
      if (event.target !== search) form.requestSubmit();
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = document.activeElement === search;
    if (event.key === "/" && !typing) {
      search.focus();
      search.select();
    } else if (event.key === "Escape" && typing) {
      if (complete) {
        search.value = "";
        filter();
      }
      search.blur();
    } else if (event.key === "ArrowDown" && typing) {
      move(1);
    } else if ((event.key === "j" || event.key === "k") && !typing) {
      move(event.key === "j" ? 1 : -1);
    } else {
      return;
    }
    event.preventDefault();
  });

  /* The browser may have restored the search text after a reload. */
  if (complete) filter();
}
