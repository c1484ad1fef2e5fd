(() => {
  const main = document.querySelector("main"), note = document.createElement("p");
  note.className = "live";
  note.setAttribute("role", "status");
  document.body.append(note);
  let version = -1;
  const say = (text) => { if (note.textContent !== text) note.textContent = text; note.hidden = !text; };
  const replace = (html) => {
    const open = [...main.querySelectorAll("details")].map((d) => d.open);
    const lines = main.querySelector("input[name=lines]:checked")?.id, focused = document.activeElement?.dataset?.name;
    main.innerHTML = html;
    main.querySelectorAll("details").forEach((d, i) => { d.open = open[i] ?? d.open; });
    if (lines) main.querySelector("#" + lines).checked = true;
    bindCharts();
    if (focused) main.querySelector(`svg.chart[data-name="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  };
  const ask = async () => {
    try {
      const state = await (await fetch("state", { cache: "no-store" })).json();
      if (state.version !== version && getSelection().isCollapsed) {
        const body = await fetch("body", { cache: "no-store" });
        if (!body.ok) throw new Error(body.statusText);
        replace(await body.text());
        document.title = state.title;
        version = state.version;
      }
      say(state.notice);
    } catch {
      say("The server does not answer; this page stays as it was. Asking again every two seconds.");
    }
    setTimeout(ask, 2000);
  };
  ask();
})();
