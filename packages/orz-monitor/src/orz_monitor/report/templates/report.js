"use strict";
const bindCharts = () => {
  const charts = [...document.querySelectorAll("svg.chart")].map((svg) => {
    const points = (svg.dataset.points ? svg.dataset.points.split(" ") : []).map((p) => p.split(":").map(Number));
    const [first, last, left, right, low, high, bottom, top, log] = svg.dataset.axes.split(",").map(Number);
    const value = svg.closest(".panel").querySelector(".value");
    return { svg, points, first, last: Math.max(last, first + 1), left, right, low, high, bottom, top, log,
             cursor: svg.querySelector(".cursor"), value, resting: value.innerHTML };
  });
  const shown = (v) => v === 0 ? "0" : Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(4));
  const nearest = (points, step) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (points[mid][0] < step) low = mid; else high = mid; }
    return Math.abs(points[low][0] - step) <= Math.abs(points[high][0] - step) ? points[low] : points[high];
  };
  const show = (step) => charts.forEach((c) => {
    if (!c.points.length) return;
    const [at, v] = nearest(c.points, step);
    const x = c.left + (at - c.first) / (c.last - c.first) * (c.right - c.left);
    const share = c.log ? Math.log(v / c.low) / Math.log(c.high / c.low) : (v - c.low) / (c.high - c.low);
    const y = c.bottom + share * (c.top - c.bottom);
    c.cursor.querySelector(".hair").setAttribute("d", `M${x} ${c.top}V${c.bottom}`);
    c.cursor.querySelector("circle").setAttribute("cx", x);
    c.cursor.querySelector("circle").setAttribute("cy", y);
    c.cursor.classList.add("on");
    c.value.textContent = shown(v) + " ";
    const where = document.createElement("span");
    where.className = "at";
    where.textContent = `step ${at}`;
    c.value.append(where);
  });
  const rest = () => charts.forEach((c) => { c.cursor.classList.remove("on"); c.value.innerHTML = c.resting; });
  charts.forEach((c) => {
    let at = c.last;
    const follow = (event) => {
      const box = c.svg.getBoundingClientRect(), width = c.svg.viewBox.baseVal.width;
      const x = (event.clientX - box.left) / box.width * width;
      at = Math.round(c.first + (x - c.left) / (c.right - c.left) * (c.last - c.first));
      show(at);
    };
    c.svg.addEventListener("pointermove", follow);
    c.svg.addEventListener("pointerdown", follow);
    c.svg.addEventListener("pointerleave", rest);
    c.svg.addEventListener("focus", () => { if (c.svg.matches(":focus-visible")) show(at); });
    c.svg.addEventListener("blur", rest);
    c.svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (event.key === "Home") at = c.first; else if (event.key === "End") at = c.last;
      else if (by) at = Math.min(Math.max(at + by, c.first), c.last); else return;
      event.preventDefault();
      show(at);
    });
  });
};
bindCharts();
