// Marks the words of a search where they stand, across the elements that the text is cut into.

const NAME = "found";

/** Mark `words` in the texts of `box` and bring the first place into view; "" takes the marks away. */
export function markFound(box: HTMLElement, words: string): void {
  if (!globalThis.CSS?.highlights) return; // an older browser: the row is found all the same
  CSS.highlights.delete(NAME);
  if (!words) return;
  const nodes: Text[] = [];
  const starts: number[] = [];
  let text = "";
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT, (node) =>
    (node.parentElement?.closest(".cut-line, .hint") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT));
  while (walker.nextNode()) {
    const node = walker.currentNode as Text;
    nodes.push(node);
    starts.push(text.length);
    text += node.data;
  }
  const pattern = new RegExp(words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "giu");
  const ranges = [...text.matchAll(pattern)].map(({ index, 0: { length } }) => {
    const range = new Range();
    const [first, last] = [nodeAt(starts, index), nodeAt(starts, index + length - 1)];
    range.setStart(nodes[first]!, index - starts[first]!);
    range.setEnd(nodes[last]!, index + length - starts[last]!);
    return range;
  });
  const found = ranges[0];
  if (!found) return;
  CSS.highlights.set(NAME, new Highlight(...ranges));
  const [frame, place] = [box.getBoundingClientRect(), found.getBoundingClientRect()];
  if (place.bottom > frame.bottom || place.top < frame.top) box.scrollTop += place.top - frame.top - frame.height / 3;
}

/** The last node that begins at or before a place. */
function nodeAt(starts: readonly number[], place: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (starts[middle]! <= place) low = middle;
    else high = middle - 1;
  }
  return low;
}
