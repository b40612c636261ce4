"use strict";
// Keeps an open page up to date. Everything that matters is in the page without it: then the browser asks again by itself.
(() => {
  const main = document.getElementById("main");
  const lost = document.getElementById("lost");
  const LOST_AFTER = 20000, ASK_EVERY = 10000, TRY_LIVE_AGAIN = 60000;
  let source = null, heard = Date.now(), liveAgain = 0;

  function clocks(part) {
    for (const time of part.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      const words = at.toLocaleTimeString(navigator.language, { hour: "2-digit", minute: "2-digit" });
      if (!isNaN(at) && time.textContent !== words) time.textContent = words;
    }
  }

  // Changes only what differs: focus, scrolling and opened details stay, and screen readers hear what is new.
  function merge(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
      old.replaceWith(fresh.cloneNode(true));
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    children(old, fresh);
  }

  function children(old, fresh) {
    const wanted = [...fresh.childNodes];
    for (let at = 0; at < wanted.length; at++) {
      const next = wanted[at];
      // A machine that moved up keeps its element.
      const same = next.id && [...old.childNodes].slice(at).find((node) => node.id === next.id);
      if (same && same !== old.childNodes[at]) old.insertBefore(same, old.childNodes[at]);
      if (at < old.childNodes.length) merge(old.childNodes[at], next);
      else old.append(next.cloneNode(true));
    }
    while (old.childNodes.length > wanted.length) old.lastChild.remove();
  }

  function show(html) {
    const fresh = new DOMParser().parseFromString("<main>" + html + "</main>", "text/html").querySelector("main");
    clocks(fresh);
    children(main, fresh);
    const head = main.querySelector("h1");
    if (head) document.title = head.textContent + " · " + document.title.split(" · ").pop();
    alive();
  }

  function alive() {
    heard = Date.now();
    lost.hidden = true;
  }

  async function ask() {
    try {
      const answer = await fetch(main.dataset.live + "&once=1", { cache: "no-store" });
      if (answer.ok) show(await answer.text());
    } catch {
      // The watch below says so.
    }
  }

  function open() {
    if (source || document.hidden) return;
    source = new EventSource(main.dataset.live);
    source.addEventListener("page", (event) => show(event.data));
    source.addEventListener("ping", alive);
    source.onerror = () => {
      // Closed for good: too many pages are open. Otherwise the browser tries again by itself.
      if (source && source.readyState === EventSource.CLOSED) {
        close();
        liveAgain = Date.now() + TRY_LIVE_AGAIN;
      }
    };
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  // A page that nobody looks at holds no connection.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      close();
    } else {
      alive();
      open();
    }
  });
  setInterval(() => {
    if (document.hidden) return;
    if (!source) {
      ask();
      if (Date.now() >= liveAgain) open();
    }
    if (Date.now() - heard > LOST_AFTER) lost.hidden = false;
  }, ASK_EVERY);
  clocks(document);
  open();
})();
