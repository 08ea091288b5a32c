// Step 2: what it hears, and what of it is rendered where.

import type { Root } from "../shell/parts";
import { RunsDialog } from "../runs/dialog";
import { runsArea } from "../runs/runs";
import type { Area } from "../store/bus";
import { Answers } from "./answers";
import { CurvePanel } from "./curve_panel";
import { PlanPanel } from "./plan_panel";
import { summaryArea } from "./after/summary";
import { resultArea } from "./result";
import { ResultPanel } from "./result_panel";
import { trainArea } from "./run";
import { RunPanel } from "./run_panel";
import { FormatLines, RatePresets, SettingsLine } from "./settings_parts";
import { BroughtSettings } from "./sharing/brought";
import { Sharing } from "./sharing/buttons";
import { sharingArea } from "./sharing/sharing";
import { Stopped } from "./stopped";
import { Outcome } from "./verdict";
import { watchArea } from "./watching";

export const trainAreas: readonly Area[] = [trainArea, watchArea, resultArea, summaryArea, runsArea, sharingArea];
export const trainRoots: readonly Root[] = [
  ["settings-line-root", SettingsLine],
  ["stopped-root", Stopped],
  ["rate-presets-root", RatePresets],
  ["chat-format-lines", FormatLines],
  ["brought-root", BroughtSettings],
  ["sharing-root", Sharing],
  ["runs-dialog-root", RunsDialog],
  ["plan-root", PlanPanel],
  ["run-root", RunPanel],
  ["outcome-root", Outcome],
  ["answers-root", Answers],
  ["result-root", ResultPanel],
  ["curve-root", CurvePanel],
];
