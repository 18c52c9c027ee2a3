// Shows the rows of the claims table that match every choice of its form, and says how many.
for (const form of document.querySelectorAll("form.lth-filter")) {
  const rows = [...form.parentElement.querySelectorAll(".lth-claims tbody tr")];
  const choices = [...form.querySelectorAll("select")];
  const count = form.querySelector("output");
  const update = () => {
    for (const row of rows) {
      row.hidden = choices.some(({ name, value }) => value && row.dataset[name] !== value);
    }
    count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} verdicts`;
  };
  form.addEventListener("change", update);
  // A reset empties the choices only after its event.
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update(); // a browser that comes back to the page may have kept the choices
}
