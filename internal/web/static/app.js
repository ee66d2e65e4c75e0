// Keeps a page true while it is looked at: fetches it again, counts ages on, and takes the colour off what is no longer fresh (P8).
"use strict";
(() => {
  const lost = document.getElementById("lost");
  const every = () => 1000 * Number(document.getElementById("main").dataset.refresh);
  let read = performance.now(); // when what is shown was fetched
  let asOf = document.querySelector("footer time");

  const span = (s) => s < 60 ? s + "s" : s < 3600 ? Math.floor(s / 60) + "m" : s < 172800 ? Math.floor(s / 3600) + "h" : Math.floor(s / 86400) + "d";

  // A site is not believed beyond its lease, whether or not the hub answers.
  function expire(e) {
    e.dataset.left = "0";
    if (e.classList.contains("tag")) {
      e.className = "tag t-stale";
      e.textContent = "was " + e.textContent;
      return;
    }
    for (const c of [...e.classList]) if (c.startsWith("s-")) e.classList.replace(c, "s-stale");
    const glyph = e.querySelector("b"), word = e.querySelector("em");
    if (glyph) glyph.textContent = "~"; else e.textContent = "~";
    if (word) word.textContent = "stale";
    for (const name of ["title", "aria-label"]) if (e.hasAttribute(name)) e.setAttribute(name, e.getAttribute(name).replace(/: .*/s, ": stale"));
  }

  function tick() {
    const passed = Math.floor((performance.now() - read) / 1000);
    for (const e of document.querySelectorAll("[data-age]")) {
      const s = Number(e.dataset.age) + passed;
      if (s >= 0 && s < 1e9) e.textContent = span(s) + " ago";
    }
    for (const e of document.querySelectorAll("[data-left]")) {
      const left = Number(e.dataset.left);
      if (left > 0 && left <= passed) expire(e);
    }
    if (!lost.hidden) lost.textContent = "No answer from the hub for " + span(passed) + ". What is shown is as of " + (asOf ? asOf.textContent : "then") + ".";
  }

  function gone() {
    lost.hidden = false;
    document.body.classList.add("lost");
    tick();
  }

  async function refresh() {
    if (document.hidden || !getSelection().isCollapsed || /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) return;
    let answer, text;
    const asked = performance.now();
    try {
      answer = await fetch(location.href, { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(15000) });
      text = await answer.text();
    } catch {
      return gone();
    }
    if (answer.redirected) return location.reload();
    if (!answer.ok) return gone();
    const next = new DOMParser().parseFromString(text, "text/html");
    const main = next.getElementById("main"), foot = next.querySelector("footer");
    if (!main || !foot) return gone();
    const link = document.activeElement.getAttribute && document.activeElement.getAttribute("href");
    document.getElementById("main").replaceWith(main);
    document.querySelector("footer").replaceWith(foot);
    if (link && main.querySelector(`[href="${CSS.escape(link)}"]`)) main.querySelector(`[href="${CSS.escape(link)}"]`).focus({ preventScroll: true });
    asOf = document.querySelector("footer time");
    read = asked;
    lost.hidden = true;
    document.body.classList.remove("lost");
    tick();
  }

  setInterval(tick, 1000);
  (async function loop() {
    for (;;) {
      await new Promise((go) => setTimeout(go, every() || 60000));
      if (every()) await refresh();
    }
  })();
  document.addEventListener("visibilitychange", () => { if (!document.hidden && every()) refresh(); });
})();
