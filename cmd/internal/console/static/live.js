// The only script: it copies commands, and keeps a page fresh that has a stream. All
// that comes from the cluster is shown as text, or as HTML that the server has made.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    const said = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "copied";
    } catch {
      said.textContent = "the browser does not let this page copy: select the text instead";
    }
  });
}

const longestFeed = 50;
const fresh = document.getElementById("fresh");

if (fresh && fresh.dataset.live && window.EventSource) {
  const feed = document.getElementById("feed");
  const state = document.getElementById("livestate");
  const section = document.getElementById("live");
  if (section) section.hidden = false;

  // refresh loads the page again and takes the part that changes, once a second at
  // most, and never while somebody is at a link in it.
  let wanted = false, busy = false;
  const refresh = async () => {
    wanted = true;
    if (busy) return;
    busy = true;
    while (wanted) {
      wanted = false;
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (answer.ok) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const next = page.getElementById("fresh");
          if (next && !fresh.contains(document.activeElement)) fresh.replaceChildren(...next.childNodes);
          else if (next) wanted = true;
        }
      } catch { /* the stream comes back, and asks again */ }
      await new Promise((done) => setTimeout(done, 1000));
    }
    busy = false;
  };

  const line = (event) => {
    const li = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = event.at;
    const link = document.createElement("a");
    link.href = event.href;
    link.textContent = event.id;
    li.append(time, " ", link, " ", event.txn, " ", event.what);
    return li;
  };
  const note = (text) => {
    const li = document.createElement("li");
    li.textContent = text;
    return li;
  };

  const stream = new EventSource(fresh.dataset.live);
  const say = (text) => { if (state) state.textContent = text; };
  stream.onopen = () => say("live");
  stream.onerror = () => say("connecting");
  stream.onmessage = (message) => {
    say("live");
    const { events, missed } = JSON.parse(message.data);
    if (feed) {
      if (missed) feed.prepend(note("some events are missing: they came too fast"));
      for (const event of events || []) feed.prepend(line(event));
      while (feed.children.length > longestFeed) feed.lastChild.remove();
    }
    if (missed || (events && events.length)) refresh();
  };
  window.addEventListener("pagehide", () => stream.close());
}
