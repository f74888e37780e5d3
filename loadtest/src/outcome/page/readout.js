// Shows the figures of a plot under the pointer, as near as the drawing tells. Nothing else depends on it.
"use strict";
for (const plot of document.querySelectorAll("svg.plot")) {
  const [left, top, right, bottom] = plot.dataset.box.split(" ").map(Number);
  const [end, low, high] = plot.dataset.ends.split(" ").map(Number);
  const figure = plot.closest("figure");
  const names = [...figure.querySelectorAll(".key")].map((key) => ({
    name: key.textContent.trim(),
    look: key.querySelector("path").classList[1],
  }));
  const points = (look) =>
    [...plot.querySelectorAll("polyline." + look)].flatMap((line) =>
      line.getAttribute("points").trim().split(" ").map((pair) => pair.split(",").map(Number)));
  const lines = names.map(({ name, look }) => ({ name, points: points(look) }));
  const three = (value) => Number(value.toPrecision(3)).toString();
  // What a step of the drawing stands for: a figure is not shown finer.
  const step = 10 ** Math.floor(Math.log10((high - low) / (bottom - top)));
  const scaled = (value, unit) => {
    const prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let at = 0;
    while (value >= 999.5 && at + 1 < prefixes.length) { value /= 1000; at += 1; }
    return `${three(value)} ${prefixes[at]}${unit}`.trim();
  };
  const words = (y) => {
    const value = low + ((bottom - y) / (bottom - top)) * (high - low);
    const rounded = Math.round(value / step) * step;
    if (plot.dataset.unit === "bytes") return scaled(rounded, "B");
    if (plot.dataset.unit !== "us") return scaled(rounded, "");
    const us = 10 ** value;
    return us < 1e3 ? `${three(us)} µs` : us < 1e6 ? `${three(us / 1e3)} ms` : `${three(us / 1e6)} s`;
  };
  const clock = (x) => {
    const secs = Math.round(((x - left) / (right - left)) * end);
    const two = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(secs / 3600);
    const rest = `${hours ? two(Math.floor(secs / 60) % 60) : Math.floor(secs / 60)}:${two(secs % 60)}`;
    return hours ? `${hours}:${rest}` : rest;
  };
  const readout = document.createElement("div");
  readout.className = "readout";
  readout.hidden = true;
  figure.append(readout);
  const cursor = document.createElementNS(plot.namespaceURI, "line");
  cursor.setAttribute("class", "cursor");
  cursor.setAttribute("y1", top);
  cursor.setAttribute("y2", bottom);
  cursor.setAttribute("visibility", "hidden");
  plot.append(cursor);
  const hide = () => { readout.hidden = true; cursor.setAttribute("visibility", "hidden"); };
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * plot.viewBox.baseVal.width;
    if (x < left || x > right) { hide(); return; }
    const near = (right - left) / 100;
    const text = [clock(x)];
    for (const { name, points } of lines) {
      const [nearest] = points.length ? [points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a))] : [];
      if (nearest && Math.abs(nearest[0] - x) <= near) text.push(`${name} ≈ ${words(nearest[1])}`);
    }
    readout.textContent = text.join("\n");
    readout.hidden = false;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    const frame = figure.getBoundingClientRect();
    const beside = event.clientX - frame.left;
    const room = frame.width - readout.offsetWidth - 8;
    readout.style.left = `${Math.max(0, beside + 14 > room ? beside - readout.offsetWidth - 14 : beside + 14)}px`;
    readout.style.top = `${box.top - frame.top + 24}px`;
  });
}
