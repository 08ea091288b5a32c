// Step 1: what it hears, and what of it is rendered where.

import type { Root } from "../shell/parts";
import type { Area } from "../store/bus";
import { cleanedArea } from "./cleaned";
import { mappingArea } from "./mapping";
import { DataPanel } from "./panel";
import { previewArea } from "./preview";
import { readingArea } from "./reading";
import { Validation, validationArea } from "./validation";

export { takeFiles as dropData } from "./input";

// The reading hears first: the others go by what it has made of an event.
export const dataAreas: readonly Area[] = [readingArea, mappingArea, previewArea, cleanedArea, validationArea];
export const dataRoots: readonly Root[] = [
  ["data-root", DataPanel],
  ["validation-root", Validation],
];
