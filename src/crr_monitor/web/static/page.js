// Shows the page's figures anew every ten seconds. Without this the page is the same, and is loaded anew by hand.
"use strict";

const PAUSE = 10000;
let failed = 0;

function busy() {
  const field = document.activeElement;
  const chosen = window.getSelection();
  return document.hidden || (field && field.tagName === "INPUT") || (chosen && !chosen.isCollapsed);
}

async function refresh() {
  if (!busy()) {
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const here = document.getElementById("main");
      const there = fresh.getElementById("main");
      if (answer.ok && here && there) {
        for (const open of here.querySelectorAll("details[open][id]")) {
          const same = there.querySelector(`#${open.id}`);
          if (same) {
            same.open = true;
          }
        }
        here.replaceWith(document.adoptNode(there));
        document.title = fresh.title;
        failed = 0;
      } else {
        failed += 1;
      }
    } catch {
      failed += 1;
    }
    document.body.classList.toggle("stale", failed > 1);
  }
  setTimeout(refresh, PAUSE);
}

setTimeout(refresh, PAUSE);
