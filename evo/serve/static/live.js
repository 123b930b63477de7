"use strict";
// Keeps a page up to date: a stream says what is new; the server has made all HTML, and every name in it is text.
(() => {
  const stream = document.body.dataset.stream;
  const connection = document.getElementById("connection");
  const byId = (id) => document.getElementById(id);

  function say(state, text) {
    connection.className = state;
    connection.textContent = text;
  }

  // Puts HTML in the place of what was in an element; folds stay open, and the focus stays where it was.
  function put(element, html) {
    const open = [...element.querySelectorAll("details")].map((fold) => fold.open);
    const active = element.contains(document.activeElement) ? document.activeElement : null;
    const address = active && active.getAttribute("href");
    const scrolled = [...element.querySelectorAll(".panel")].map((panel) => panel.scrollLeft);
    element.innerHTML = html;
    element.querySelectorAll("details").forEach((fold, number) => { fold.open = Boolean(open[number]); });
    element.querySelectorAll(".panel").forEach((panel, number) => { panel.scrollLeft = scrolled[number] || 0; });
    if (address) {
      const same = [...element.querySelectorAll("a")].find((link) => link.getAttribute("href") === address);
      if (same) same.focus({ preventScroll: true });
    }
  }

  async function fetched(address) {
    const answer = await fetch(address, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.text();
  }

  let wanted = [];
  let busy = false;

  // Brings the panels into the order and to the versions of `wanted`; a later list replaces one under way.
  async function showPanels() {
    if (busy) return;
    busy = true;
    const panels = byId("panels");
    try {
      for (let again = true; again;) {
        again = false;
        const list = wanted;
        let before = null;
        for (const [key, version] of list) {
          let section = byId("panel-" + key);
          if (!section || section.dataset.version !== version) {
            const made = new DOMParser().parseFromString(await fetched(panels.dataset.address + key), "text/html");
            const fresh = made.querySelector("section");
            if (section) {
              put(section, fresh.innerHTML);
              section.dataset.version = fresh.dataset.version;
            } else {
              section = fresh;
            }
          }
          const next = before ? before.nextElementSibling : panels.firstElementChild;
          if (section !== next) panels.insertBefore(section, next);
          before = section;
          if (wanted !== list) { again = true; break; }
        }
        if (!again) {
          const keys = new Set(list.map(([key]) => key));
          for (const section of [...panels.children]) if (!keys.has(section.dataset.key)) section.remove();
        }
      }
      const waiting = byId("waiting");
      if (waiting) waiting.remove();
    } catch {
      // the next event asks again
    } finally {
      busy = false;
    }
  }

  // --- the table of genomes ---------------------------------------------------------------------------------

  const rows = byId("rows");
  const filters = byId("filters");
  let asked = 0;

  async function showRows(query) {
    const number = ++asked;
    try {
      const html = await fetched(rows.dataset.address + query);
      if (number === asked) put(rows, html);
    } catch {
      say("lost", "the server does not answer");
    }
  }

  function go(query) {
    history.replaceState(null, "", location.pathname + query);
    return showRows(query);
  }

  if (rows && filters) {
    let timer = 0;
    const filter = () => {
      const values = new URLSearchParams(new FormData(filters));
      for (const [name, value] of [...values]) if (value === "") values.delete(name);
      go("?" + values);
    };
    filters.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(filter, 120); });
    filters.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(timer); filter(); });
    rows.addEventListener("click", (event) => {
      const link = event.target.closest("th a, nav a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      const query = new URL(link.href).search;
      const values = new URLSearchParams(query);
      filters.elements.sort.value = values.get("sort") || "quality";
      filters.elements.down.value = values.get("down") || "1";
      go(query).then(() => { if (link.closest("nav")) window.scrollTo(0, 0); });
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
      if (event.key === "/") {
        event.preventDefault();
        filters.elements.search.focus();
      }
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        const link = rows.querySelector(event.key === "ArrowLeft" ? "a[rel=prev]" : "a[rel=next]");
        if (link) link.click();
      }
    });
  }

  // --- the stream -------------------------------------------------------------------------------------------

  const show = {
    runs: (value) => put(byId("runs"), value.html),
    facts: (value) => { if (byId("facts")) put(byId("facts"), value.html); },
    panels: (value) => { if (byId("panels")) { wanted = value; showPanels(); } },
    table: (value) => {
      if (byId("unread")) location.reload();
      const known = rows && rows.querySelector("[data-version]");
      if (known && known.dataset.version !== String(value.version)) showRows(location.search);
    },
  };

  function connect() {
    const source = new EventSource(stream);
    source.onopen = () => say("live", "live");
    for (const name of Object.keys(show)) {
      source.addEventListener(name, (event) => show[name](JSON.parse(event.data)));
    }
    source.onerror = () => {
      source.close();
      say("lost", "the server does not answer; trying again");
      setTimeout(connect, 1000);
    };
  }

  if (stream) connect();
})();
