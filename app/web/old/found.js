// Marks the words of a search where they stand, across the elements that the text is cut into.

const NAME = "found";

/** Mark `words` in the texts of `box` and bring the first place into view; "" takes the marks away. */
export function markFound(box, words) {
  if (!globalThis.CSS?.highlights) return; // an older browser: the row is found all the same
  CSS.highlights.delete(NAME);
  if (!words) return;
  const nodes = [], starts = [];
  let text = "";
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT, (node) =>
    (node.parentElement.closest(".cut-line, .hint") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
  while (walker.nextNode()) {
    nodes.push(walker.currentNode);
    starts.push(text.length);
    text += walker.currentNode.data;
  }
  const pattern = new RegExp(words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
  const ranges = [...text.matchAll(pattern)].map(({ index, 0: { length } }) => {
    const range = new Range();
    const first = nodeAt(starts, index), last = nodeAt(starts, index + length - 1);
    range.setStart(nodes[first], index - starts[first]);
    range.setEnd(nodes[last], index + length - starts[last]);
    return range;
  });
  if (!ranges.length) return;
  CSS.highlights.set(NAME, new Highlight(...ranges));
  const frame = box.getBoundingClientRect(), place = ranges[0].getBoundingClientRect();
  if (place.bottom > frame.bottom || place.top < frame.top) box.scrollTop += place.top - frame.top - frame.height / 3;
}

/** The last node that begins at or before a place. */
function nodeAt(starts, place) {
  let low = 0, high = starts.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (starts[middle] <= place) low = middle;
    else high = middle - 1;
  }
  return low;
}
