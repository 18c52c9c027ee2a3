// Shows what a linked term means: on hovering, on focus, and after a long touch.
{
  // A tip that covers something must go without moving the pointer.
  const hideOnEscape = {
    name: "hideOnEscape",
    defaultValue: true,
    fn({ hide }) {
      const onKey = ({ key }) => key === "Escape" && hide();
      return {
        onShow: () => document.addEventListener("keydown", onKey),
        onHide: () => document.removeEventListener("keydown", onKey),
      };
    },
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  tippy("a.lth-term", {
    content: (link) => link.dataset.meaning,
    plugins: [hideOnEscape],
    interactive: true, // the pointer may move onto the tip
    aria: { content: "describedby", expanded: false },
    maxWidth: "min(24rem, 90vw)",
    theme: "lth",
    delay: [150, 50],
    duration: still ? 0 : [150, 100],
    touch: ["hold", 400],
  });
}
