"use strict";
// The page is complete without this: it adds the values under the pointer, and the choice of a theme.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; label(); };
  label();

  const number = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });
  const about = (value) => number(value, value < 10 ? 2 : value < 100 ? 1 : 0);
  const text = {
    ms: (value) => value < 1000 ? about(value) + " ms" : number(value / 1000, 2) + " s",
    percent: (value) => number(value, 1) + " %",
    bytes: (value) => value < 1e9 ? number(value / 1e6, 1) + " MB" : number(value / 1e9, 2) + " GB",
    per_second: (value) => about(value) + "/s",
    count: (value) => about(value),
  };
  const clock = (ms) => {
    const all = Math.round(ms / 1000), two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(all / 3600), minutes = Math.floor(all / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`;
  };

  const charts = [...document.querySelectorAll(".chart[data-unit]")].map((figure) => {
    const data = JSON.parse(figure.querySelector("script").textContent);
    const cells = [...figure.querySelectorAll(".legend b")];
    const when = figure.querySelector(".when");
    return { figure, data, cells, when, area: figure.querySelector(".area"), cursor: figure.querySelector(".cursor"),
      rest: cells.map((cell) => cell.textContent) };
  });
  // The last column that begins at or before a moment.
  const column = (times, at) => {
    let low = 0, high = times.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (times[middle] <= at) low = middle; else high = middle - 1;
    }
    return low;
  };
  const show = (at) => {
    for (const { figure, data, cells, when, cursor } of charts) {
      const i = column(data.t, at);
      cells.forEach((cell, line) => {
        const value = data.v[line][i];
        cell.textContent = value === null ? "–" : text[figure.dataset.unit](value);
      });
      when.textContent = "at " + clock(data.t[i]);
      cursor.style.display = "block";
      cursor.style.left = (at / data.end) * 100 + "%";
    }
  };
  const rest = () => {
    for (const { cells, when, cursor, rest } of charts) {
      cells.forEach((cell, line) => { cell.textContent = rest[line]; });
      when.textContent = "highest";
      cursor.style.display = "none";
    }
  };
  for (const { area, data } of charts) {
    area.onpointermove = area.onpointerdown = (event) => {
      const box = area.getBoundingClientRect();
      show(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * data.end);
    };
    area.onpointerleave = rest;
  }
})();
