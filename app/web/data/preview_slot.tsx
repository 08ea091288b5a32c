// Where the preview stands. What draws it is fetched when there is a row to look at.

import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect } from "preact/hooks";
import { panelState } from "../store/data";
import { showProblem } from "../store/problems";
import { dataText } from "../text";
import { canPreview } from "./preview";

const panel = signal<{ readonly Preview: ComponentType } | null>(null);

async function load(): Promise<void> {
  try {
    panel.value = await import("./preview_panel");
  } catch {
    showProblem("dataset-problem", { message: dataText.preview.notLoaded });
  }
}

export function PreviewSlot() {
  const isWanted = panelState.value !== "empty"; // it is on its way while the data is read
  useEffect(() => {
    if (isWanted && !panel.peek()) void load();
  }, [isWanted]);
  const Preview = panel.value?.Preview;
  return Preview && canPreview.value ? <Preview /> : null;
}
