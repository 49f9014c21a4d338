// Keeps the page up to date: replaces the elements that the server sends anew, and says how old it is.
"use strict";

(() => {
  const address = document.body.dataset.events;
  const live = document.getElementById("live");

  const ago = (seconds) => {
    const steps = [[86400, "d"], [3600, "h"], [60, "min"]];
    for (const [length, unit] of steps) {
      if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
    }
    return seconds < 10 ? "just now" : `${Math.floor(seconds / 10) * 10} s ago`;
  };

  const tellTimes = () => {
    for (const time of document.querySelectorAll("time")) {
      const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
      const absolute = time.title || time.textContent;
      const text = seconds > -5 ? ago(seconds) : `in ${ago(-seconds).replace(" ago", "")}`;
      time.title = absolute;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  // What a person opened, focused or scrolled stays so in the element that takes the place.
  const replace = (old, fresh) => {
    for (const details of old.querySelectorAll("details[open][id]")) {
      fresh.querySelector(`#${CSS.escape(details.id)}`)?.setAttribute("open", "");
    }
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const tops = [...old.querySelectorAll("pre")].map((pre) => {
      const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;
      return atEnd ? Infinity : pre.scrollTop;
    });
    const typed = old.querySelector("input[type=search]");
    const field = fresh.querySelector("input[type=search]");
    if (typed && field) field.value = typed.value;
    for (const chosen of old.querySelectorAll("select[name]")) {
      const again = fresh.querySelector(`select[name="${CSS.escape(chosen.name)}"]`);
      if (again && [...again.options].some((one) => one.value === chosen.value)) again.value = chosen.value;
    }
    old.replaceWith(fresh);
    fresh.querySelectorAll("pre").forEach((pre, place) => {
      pre.scrollTop = Math.min(tops[place] ?? Infinity, pre.scrollHeight);
    });
    if (active) refocus(fresh, active);
  };

  const refocus = (fresh, active) => {
    const link = active.getAttribute("href");
    const candidates = [
      active.id && `#${CSS.escape(active.id)}`,
      link && `a[href="${CSS.escape(link)}"]`,
      active.tagName === "INPUT" && "input",
      active.tagName === "SELECT" && `select[name="${CSS.escape(active.name)}"]`,
      active.tagName === "BUTTON" && "button",
      active.tagName === "PRE" && "pre",
      active.tagName === "SUMMARY" && active.parentElement?.id && `#${CSS.escape(active.parentElement.id)} > summary`,
    ];
    const found = candidates.filter(Boolean).map((one) => fresh.querySelector(one)).find(Boolean);
    found?.focus({ preventScroll: true });
  };

  const take = (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) {
      const old = document.getElementById(id);
      const holder = document.createElement("template");
      holder.innerHTML = html; // escaped where it was made; the policy lets no script in it run
      const fresh = holder.content.firstElementChild;
      if (!old || !fresh) continue;
      replace(old, fresh);
      if (fresh.matches("tr, .head, .commits > li")) fresh.classList.add("fresh");
    }
    tellTimes();
  };

  const say = (text, kind) => {
    if (!live || live.textContent === text) return;
    live.textContent = text;
    live.className = kind;
  };

  tellTimes();
  setInterval(tellTimes, 5000);
  for (const pre of document.querySelectorAll("#console pre")) pre.scrollTop = pre.scrollHeight;
  // A lost connection is tried again by the browser itself; one that was refused is not.
  const connect = () => {
    const source = new EventSource(address);
    source.addEventListener("open", () => say("live", "good"));
    source.addEventListener("error", () => {
      say("not connected; what you see may be old", "bad");
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 10000);
    });
    source.addEventListener("pieces", take);
  };
  if (address) connect();
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      const field = document.querySelector("input[type=search]");
      if (field) {
        field.focus();
        event.preventDefault();
      }
    }
  });
})();
