"use strict";
const element = (id) => document.getElementById(id);
let latest = 0;

async function ask(inputs) {
  const response = await fetch("predict", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ inputs, model: element("model").value || undefined }),
  });
  const told = await response.json();
  if (!response.ok) throw new Error(told.error);
  return told;
}

function row(label, score) {
  const line = document.createElement("tr");
  const meter = document.createElement("meter");
  meter.value = score;
  for (const cell of [label, meter, score.toFixed(3)]) {
    const place = document.createElement("td");
    place.append(cell);
    line.append(place);
  }
  return line;
}

async function show() {
  const number = ++latest;
  const text = element("text").value;
  const parts = text.split(/(\s+)/);
  const places = parts.map((part, place) => (part.trim() ? place : -1)).filter((place) => place >= 0).slice(0, 100);
  const without = places.map((gone) => parts.filter((_, place) => place !== gone).join(""));
  try {
    const [whole, ...others] = await ask([text, ...without]);
    if (number !== latest) return;
    element("said").textContent = "";
    element("labels").replaceChildren(...whole.map((each) => row(each.label, each.score)));
    const first = whole[0];
    const weights = others.map((told) => first.score - told.find((each) => each.label === first.label).score);
    const most = Math.max(0.02, ...weights.map(Math.abs));
    element("words").replaceChildren(
      ...parts.map((part, place) => {
        const word = document.createElement("span");
        word.textContent = part;
        const index = places.indexOf(place);
        if (index >= 0) {
          const weight = weights[index];
          const colour = weight > 0 ? "var(--more)" : "var(--less)";
          word.style.background = `rgba(${colour}, ${(0.6 * Math.abs(weight)) / most})`;
          word.title = `${first.label}: ${weight.toFixed(3)}`;
        }
        return word;
      }),
    );
  } catch (error) {
    element("said").textContent = error.message;
  }
}

async function begin() {
  const told = await (await fetch("models")).json();
  for (const model of told.models.filter((each) => each.kind === "classifier")) {
    element("model").append(new Option(model.name));
  }
  element("ask").addEventListener("click", show);
  element("model").addEventListener("change", show);
  show();
}

begin();
