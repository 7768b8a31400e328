"use strict";
const cells = [...document.querySelectorAll("main > section")];
const links = [...document.querySelectorAll("nav a")];
const guess = document.getElementById("guess");
let here = 0;

function stand(i, move) {
  here = Math.max(0, Math.min(i, cells.length - 1));
  cells.forEach((cell, j) => cell.classList.toggle("here", j === here));
  links.forEach((link, j) => j === here ? link.setAttribute("aria-current", "step") : link.removeAttribute("aria-current"));
  if (move) { cells[here].focus({ preventScroll: true }); cells[here].scrollIntoView({ block: "start" }); }
}

function reveal(cell, shown) {
  const result = cell.querySelector(".result");
  if (!result) return;
  result.hidden = !shown;
  let button = cell.querySelector("button.reveal");
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.className = "reveal";
    button.addEventListener("click", () => reveal(cell, result.hidden));
    result.before(button);
  }
  button.textContent = shown ? "hide the result" : "show the result";
  button.setAttribute("aria-expanded", String(shown));
  button.hidden = shown && guess.getAttribute("aria-pressed") !== "true";
}

guess.addEventListener("click", () => {
  const on = guess.getAttribute("aria-pressed") !== "true";
  guess.setAttribute("aria-pressed", String(on));
  cells.forEach(cell => reveal(cell, !on));
});

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n") stand(here + 1, true);
  else if (event.key === "p") stand(here - 1, true);
  else if (event.key === "r") { const r = cells[here].querySelector(".result"); if (r) reveal(cells[here], r.hidden); }
});

document.querySelector(".keys").hidden = false;
const named = cells.findIndex(cell => "#" + cell.id === location.hash);
stand(Math.max(named, 0), named > 0);
