// What a page needs to be alive: explorers, plots, and the search. No library but plotly, and no request to anywhere.
const EXPLORERS = {};

function search(words) {
  // A word of seven letters and more is found in its other forms too: redundant in redundancies.
  const asked = words.toLowerCase().split(/\s+/).filter(Boolean).map(word => word.length > 6 ? word.slice(0, -2) : word);
  const found = [];
  for (const section of INDEX) {
    const title = section.title.toLowerCase(), heading = section.heading.toLowerCase(), text = section.text.toLowerCase();
    const worth = asked.map(word => 8 * title.includes(word) + 4 * heading.includes(word) + Math.min(3, text.split(word).length - 1));
    if (worth.every(Boolean)) found.push({section, worth: worth.reduce((sum, one) => sum + one, 0), at: text.indexOf(asked[0])});
  }
  return found.sort((one, other) => other.worth - one.worth);
}

function showFound(words) {
  const found = search(words), list = document.getElementById("found");
  const count = document.getElementById("count");
  count.textContent = found.length ? `${found.length} places speak of ${words}.` : `No notebook speaks of ${words}; try fewer or shorter words.`;
  list.replaceChildren(...found.slice(0, 50).map(({section, at}) => {
    const item = document.createElement("li"), link = document.createElement("a"), around = document.createElement("p");
    link.href = section.page;
    link.textContent = section.heading ? `${section.title}: ${section.heading}` : section.title;
    const start = Math.max(0, at - 80);
    around.textContent = (start ? "… " : "") + section.text.slice(start, start + 220) + " …";
    item.append(link, around);
    return item;
  }));
}

document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll("[data-explorer]")) leaf(place, EXPLORERS[place.dataset.explorer]);
  for (const place of document.querySelectorAll(".plot")) {
    const {data, layout} = JSON.parse(place.querySelector("script").textContent);
    place.replaceChildren();
    Plotly.newPlot(place, data, layout, {displaylogo: false, responsive: true});
  }
  const words = new URLSearchParams(location.search).get("q");
  if (words && document.getElementById("found")) {
    document.querySelector("header input").value = words;
    showFound(words);
  }
});
