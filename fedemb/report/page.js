// A sweep's page: values beside the pointer, tables that sort, commands that copy. Without it the page shows the same.
"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);

  for (const point of document.querySelectorAll("svg.plot .point")) {
    const title = point.querySelector(":scope > title");
    if (!title) continue;
    point.dataset.tip = title.textContent;
    point.setAttribute("aria-label", title.textContent);
    title.remove(); // the browser would show it a second time
  }

  const show = (event) => {
    const point = event.target instanceof Element && event.target.closest("[data-tip]");
    for (const old of document.querySelectorAll(".point.on")) if (old !== point) old.classList.remove("on");
    tip.hidden = !point;
    if (!point) return;
    point.classList.add("on");
    tip.textContent = point.dataset.tip;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const left = Math.max(8, Math.min(event.clientX + 14, room));
    const above = event.clientY - tip.offsetHeight - 14;
    tip.style.left = `${left}px`;
    tip.style.top = `${above < 8 ? event.clientY + 18 : above}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [a, b].map((key) => (key === "inf" ? Infinity : Number(key)));
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x === y ? 0 : x - y; // two infinities have no difference
    return a.localeCompare(b, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.className === "act") return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.sort ?? "";
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const order = compare(key(a), key(b));
          return down && key(a) !== "" && key(b) !== "" ? -order : order; // what is missing stays last
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  const copied = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "offscreen";
      document.body.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) throw new Error("not allowed");
    }
  };
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const said = button.dataset.said ?? (button.dataset.said = button.textContent);
      try {
        await copied(button.dataset.copy);
        button.textContent = "copied";
      } catch {
        button.textContent = "no access";
      }
      setTimeout(() => { button.textContent = said; }, 1500);
    });
  }

  const open = () => {
    const target = location.hash.startsWith("#run-") && document.getElementById(location.hash.slice(1));
    if (!target) return;
    target.closest("details").open = true;
    target.scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  open();
})();
