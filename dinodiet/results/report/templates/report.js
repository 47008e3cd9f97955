"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const TILE = 40, ACROSS = 50, SHOWN = 3;  // pixels of a small image, images in a row, how much larger it is shown
  const PAPER = 660;  // pixels of a plot on paper

  // Light and dark: as the system has it, until somebody chooses.
  const stored = () => { try { return localStorage.getItem("dinodiet-theme"); } catch { return null; } };
  const store = (theme) => { try { localStorage.setItem("dinodiet-theme", theme); } catch { /* a file may not */ } };
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    button.textContent = theme === "dark" ? "light" : "dark";
    button.setAttribute("aria-pressed", String(theme === "dark"));
    all(".canvas.drawn").forEach((canvas) => Plotly.relayout(canvas, inks()));
  };
  const inks = () => {
    const style = getComputedStyle(root), line = style.getPropertyValue("--line").trim();
    const axes = { gridcolor: line, zerolinecolor: style.getPropertyValue("--soft").trim() };
    const named = (axis) => Object.fromEntries(Object.entries(axes).map(([key, value]) => [`${axis}.${key}`, value]));
    return { "font.color": style.getPropertyValue("--fore").trim(), ...named("xaxis"), ...named("yaxis") };
  };

  // Save text or numbers as a file.
  const save = (name, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const tableText = (table) => [...table.rows].filter((row) => !row.hidden)
    .map((row) => [...row.cells].map((cell) => quoted(cell.textContent.trim())).join(",")).join("\n") + "\n";

  // Tables: sorted by a head, searched by words, filtered by lists.
  const key = (cell) => cell.dataset.order ?? cell.textContent.trim();
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "") || 0;
    const [m, n] = [Number(x), Number(y)];
    return Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y, undefined, { numeric: true }) : m - n;
  };
  const sort = (table, column, up) => {
    const body = table.tBodies[0], rows = [...body.rows];
    const empty = (row) => key(row.cells[column]) === "";
    rows.sort((a, b) => (empty(a) || empty(b) ? empty(a) - empty(b) : (up ? 1 : -1) * compare(a.cells[column], b.cells[column])));
    body.append(...rows);
    all("thead th", table).forEach((head, at) => head.setAttribute("aria-sort", at !== column ? "none" : up ? "ascending" : "descending"));
  };
  const filter = (figure) => {
    const words = (figure.querySelector(".words")?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = all("select", figure).filter((list) => list.value !== "").map((list) => [Number(list.dataset.column), list.value.slice(1)]);
    let shown = 0;
    const rows = all("tbody tr", figure);
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) && chosen.every(([at, value]) => row.cells[at].textContent.trim() === value));
      shown += row.hidden ? 0 : 1;
    });
    const told = figure.querySelector(".shown");
    if (told) told.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  };
  const table = (figure) => {
    const drawn = figure.querySelector("table");
    all("thead button", figure).forEach((button, at) => button.addEventListener("click", () =>
      sort(drawn, at, button.parentElement.getAttribute("aria-sort") !== "ascending")));
    all("select", figure).forEach((list) => {
      const values = new Set(all("tbody tr", figure).map((row) => row.cells[Number(list.dataset.column)].textContent.trim()));
      [...values].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).forEach((value) => {
        const option = new Option(value === "" ? "(none)" : value, `=${value}`);
        list.append(option);
      });
      list.addEventListener("change", () => filter(figure));
    });
    figure.querySelector(".words")?.addEventListener("input", () => filter(figure));
    if (figure.querySelector(".shown")) filter(figure);
    figure.querySelector(".csv").addEventListener("click", () => save(`${figure.dataset.name}.csv`, tableText(drawn)));
  };

  // Plots are drawn when they are first seen.
  const draw = (figure) => {
    const canvas = figure.querySelector(".canvas");
    if (canvas.classList.contains("drawn")) return canvas;
    const { traces, layout } = JSON.parse(figure.querySelector(".what").textContent);
    canvas.classList.add("drawn");
    Plotly.newPlot(canvas, traces, { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" },
      { responsive: true, displayModeBar: false, displaylogo: false });
    Plotly.relayout(canvas, inks());
    if (figure.dataset.thumbnails) thumbnails(canvas, figure.dataset.thumbnails);
    return canvas;
  };
  const thumbnails = (canvas, source) => {
    const one = document.getElementById("thumbnail");
    canvas.on("plotly_hover", (found) => {
      const at = found.points[0].customdata, side = TILE * SHOWN;
      if (at === undefined) return;
      Object.assign(one.style, {
        width: `${side}px`, height: `${side}px`, backgroundImage: `url("${source}")`,
        backgroundSize: `${ACROSS * side}px auto`, imageRendering: "pixelated",
        backgroundPosition: `-${(at % ACROSS) * side}px -${Math.floor(at / ACROSS) * side}px`,
        left: `${Math.min(found.event.clientX + 16, innerWidth - side - 8)}px`, top: `${Math.max(found.event.clientY - side - 16, 8)}px`,
      });
      one.hidden = false;
    });
    canvas.on("plotly_unhover", () => { one.hidden = true; });
  };
  const seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
    seen.unobserve(entry.target);
    if (entry.target.dataset.later) fetched(entry.target); else draw(entry.target);
  }), { rootMargin: "300px" });
  const plot = (figure) => {
    seen.observe(figure);
    const image = (format) => () => Plotly.downloadImage(draw(figure), { format, filename: figure.dataset.name, width: 1000, height: 600, scale: 2 });
    figure.querySelector(".svg").addEventListener("click", image("svg"));
    figure.querySelector(".png").addEventListener("click", image("png"));
    figure.querySelector(".csv").addEventListener("click", () => save(`${figure.dataset.name}.csv`, JSON.parse(figure.querySelector(".numbers").textContent)));
  };
  const begin = (within) => {
    all("figure.table", within).forEach(table);
    all("figure.plot", within).forEach(plot);
    all("[data-later]", within).forEach((section) => seen.observe(section));
  };

  // Live: sections whose text has changed on the server are exchanged; sorting, words and open folds stay.
  const SELDOM = 6;  // looks of which one asks for what takes the server seconds
  const raw = new Map();
  let looks = 0;
  const fetched = async (section) => {
    const answer = await fetch(section.dataset.later);
    if (answer.ok) exchange(section, await answer.text(), section.dataset.later);
  };
  const exchange = (section, text, later) => {
    if (raw.get(section.id) === text) return;
    raw.set(section.id, text);
    const made = new DOMParser().parseFromString(text, "text/html").querySelector("section");
    if (!made) return;
    const fresh = document.importNode(made, true);
    if (later) fresh.dataset.source = later;
    const open = new Set(all("details[open] > summary", section).map((one) => one.textContent));
    all("details", fresh).forEach((fold) => { if (open.has(fold.firstElementChild.textContent)) fold.open = true; });
    const sorted = all("figure.table", section).map((figure) => [figure.dataset.name, state(figure)]);
    all(".canvas.drawn", section).forEach((canvas) => Plotly.purge(canvas));
    section.replaceWith(fresh);
    begin({ querySelectorAll: (selector) => [fresh, ...fresh.querySelectorAll("*")].filter((one) => one.matches(selector)) });
    sorted.forEach(([name, kept]) => restore(all("figure.table", fresh).find((figure) => figure.dataset.name === name), kept));
  };
  const state = (figure) => {
    const heads = all("thead th", figure), column = heads.findIndex((head) => head.getAttribute("aria-sort") !== "none");
    return { column, up: heads[column]?.getAttribute("aria-sort") === "ascending", words: figure.querySelector(".words")?.value,
      lists: all("select", figure).map((list) => list.value), scroll: figure.querySelector(".scroll").scrollTop };
  };
  const restore = (figure, { column, up, words, lists, scroll }) => {
    if (!figure) return;
    if (words !== undefined) figure.querySelector(".words").value = words;
    all("select", figure).forEach((list, at) => { if ([...list.options].some((option) => option.value === lists[at])) list.value = lists[at]; });
    if (column >= 0) sort(figure.querySelector("table"), column, up);
    if (figure.querySelector(".shown")) filter(figure);
    figure.querySelector(".scroll").scrollTop = scroll;
  };
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.pathname);
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      all("section[id]:not([data-later])", fresh).forEach((section) => {
        const old = document.getElementById(section.id);
        if (old && !raw.has(section.id)) raw.set(section.id, first.get(section.id));
        if (old) exchange(old, section.outerHTML);
      });
      document.querySelector(".made").textContent = fresh.querySelector(".made").textContent;
      looks += 1;
      if (looks % SELDOM === 0) await Promise.all(all("[data-source]").map(async (section) => {
        const part = await fetch(section.dataset.source);
        if (part.ok) exchange(section, await part.text(), section.dataset.source);
      }));
    } catch { document.querySelector(".made").textContent = "the server does not answer"; }
  };

  // In a file: one page at a time, chosen by what follows the #.
  const show = () => {
    const name = decodeURIComponent(location.hash.slice(1)), target = name ? document.getElementById(name) : null;
    const page = target?.closest(".page") ?? document.querySelector(".page");
    all(".page").forEach((one) => { one.hidden = one !== page; });
    if (target && target !== page) target.scrollIntoView(); else if (target) scrollTo(0, 0);
    document.title = `${page.querySelector("h1").textContent} - dinodiet`;
  };

  // Links within a page lead to its own section: each page has sections of the same names.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("nav a[data-section]");
    if (!link) return;
    event.preventDefault();
    all("section", link.closest(".page")).find((section) => section.id === link.dataset.section)?.scrollIntoView();
  });

  const first = new Map(all("section[id]:not([data-later])").map((section) => [section.id, section.outerHTML]));
  setTheme(stored() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => {
    setTheme(root.dataset.theme === "dark" ? "light" : "dark");
    store(root.dataset.theme);
  });
  addEventListener("hashchange", show);
  const shown = () => all(".page:not([hidden]) figure.plot").map(draw);
  addEventListener("beforeprint", () => shown().forEach((canvas) => Plotly.relayout(canvas, { width: PAPER })));
  addEventListener("afterprint", () => shown().forEach((canvas) => Plotly.relayout(canvas, { width: null, autosize: true })));
  show();
  begin(document);
  if (root.dataset.live) setInterval(refresh, 1000 * Number(root.dataset.live));
})();
