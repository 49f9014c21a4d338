// Signs in, shows pages with the session of this origin, and keeps them up to date.
//
// The session is kept where only pages of this origin, its port included, can read it, and is sent in a
// header. A cookie would be sent to every port of the host, so also to a guest's page.
"use strict";

(() => {
  const KEPT = "reconciler-session";
  const RETRY = 2000;
  const RETRY_REFUSED = 10000;
  let following = new AbortController();
  const here = () => location.pathname + location.search;
  let shown = here();

  const ask = (address, options = {}) => {
    const session = localStorage.getItem(KEPT);
    const headers = { ...options.headers, ...(session ? { Authorization: `Bearer ${session}` } : {}) };
    return fetch(address, { ...options, headers, credentials: "omit", cache: "no-store" });
  };

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

  const take = (data) => {
    for (const [id, html] of Object.entries(JSON.parse(data))) {
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
    const live = document.getElementById("live");
    if (!live || live.textContent === text) return;
    live.textContent = text;
    live.className = kind;
  };

  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  // Server-sent events by fetch(): EventSource cannot send a header.
  const readEvents = async (answer) => {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const data = lines.find((line) => line.startsWith("data: "));
        if (data && lines.includes("event: pieces")) take(data.slice(6));
      }
    }
  };

  const follow = async (address, signal) => {
    for (;;) {
      let wait = RETRY;
      try {
        const answer = await ask(address, { signal });
        if (answer.status === 401) {
          await show(location.href);
          return;
        }
        if (answer.ok) {
          say("live", "good");
          await readEvents(answer);
        } else {
          wait = RETRY_REFUSED;
        }
      } catch (error) {
        if (signal.aborted) return;
      }
      say("not connected; what you see may be old", "bad");
      await pause(wait);
      if (signal.aborted) return;
    }
  };

  const begin = () => {
    shown = here();
    following.abort();
    following = new AbortController();
    tellTimes();
    for (const pre of document.querySelectorAll("#console pre")) pre.scrollTop = pre.scrollHeight;
    const address = document.body.dataset.events;
    if (address) follow(address, following.signal);
  };

  const asText = async (answer) => {
    const page = document.implementation.createHTMLDocument("");
    const main = page.createElement("main");
    const text = page.createElement("pre");
    text.textContent = await answer.text();
    text.tabIndex = 0;
    main.id = "main";
    main.append(text);
    page.body.replaceChildren(main);
    return page;
  };

  const exchange = (fresh) => {
    if (fresh.title) document.title = fresh.title;
    document.querySelector("head > title").id = "title";
    for (const name of Object.keys(document.body.dataset)) delete document.body.dataset[name];
    Object.assign(document.body.dataset, fresh.body.dataset);
    document.body.replaceChildren(...fresh.body.childNodes);
    document.body.hidden = false;
  };

  // The page at an address, in place of the one that is shown.
  const show = async (address) => {
    const answer = await ask(address, { headers: { Accept: "text/html, */*" } });
    if (answer.status === 401) {
      localStorage.removeItem(KEPT);
      return signIn();
    }
    const isPage = (answer.headers.get("Content-Type") ?? "").startsWith("text/html");
    const fresh = isPage ? new DOMParser().parseFromString(await answer.text(), "text/html") : await asText(answer);
    exchange(fresh);
    begin();
  };

  const signIn = async () => {
    following.abort();
    if (!("signIn" in document.body.dataset)) {
      const answer = await fetch("/login", { credentials: "omit", cache: "no-store" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      exchange(fresh);
    }
    document.body.hidden = false;
    document.querySelector("input[name=token]")?.focus();
  };

  const notice = (text, good) => {
    const note = document.createElement("p");
    note.className = good ? "notice" : "notice bad";
    note.setAttribute("role", good ? "status" : "alert");
    note.textContent = text;
    document.getElementById("note")?.remove();
    note.id = "note";
    const place = document.querySelector(".actions h2") ?? document.querySelector("main h1");
    if (place) place.after(note);
    else document.body.prepend(note);
  };

  const post = async (form) => {
    const action = form.getAttribute("action");
    const button = form.querySelector("button");
    if (button) button.disabled = true;
    try {
      const answer = await ask(action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      const said = await answer.json();
      if (answer.status === 401) await show(location.href);
      else if (!answer.ok) notice(said.error.message, false);
      else if (action === "/login") {
        localStorage.setItem(KEPT, said.session);
        if (location.pathname === "/login") history.replaceState(null, "", "/");
        await show(location.href);
      } else if (action === "/logout") {
        localStorage.removeItem(KEPT);
        await signIn();
      } else {
        if (said.back !== here()) history.pushState(null, "", said.back);
        await show(said.back);
        notice(said.message, said.done);
      }
    } catch (error) {
      notice("The host did not answer. Try again.", false);
    } finally {
      if (button) button.disabled = false;
    }
  };

  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    event.preventDefault();
    post(event.target);
  });
  // A jump within the page changes the address too.
  window.addEventListener("popstate", () => {
    if (here() !== shown) show(location.href);
  });
  setInterval(tellTimes, 5000);
  if (!("signIn" in document.body.dataset)) begin();
  else if (localStorage.getItem(KEPT) && location.pathname !== "/login") {
    document.body.hidden = true;
    show(location.href).catch(() => {
      document.body.hidden = false;
      notice("The host did not answer. Load the page again.", false);
    });
  } else signIn();
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
