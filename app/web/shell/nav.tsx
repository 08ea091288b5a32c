// The header's part that changes: the three panels of a narrow window, with the run's progress, and light or dark.

import { nextTheme, tab, theme, type Tab } from "../store/shell";
import { isRunning, phaseProgress } from "../store/train";
import { pageText } from "../text";
import { Icon } from "./parts";

const TABS: readonly Tab[] = ["data", "train", "chat"];

/** Show a panel, from its beginning. */
function show(event: Event, name: Tab): void {
  event.preventDefault();
  tab.value = name;
  scrollTo({ top: 0 });
}

export function Tabs() {
  const { done, total } = phaseProgress.value;
  const part = isRunning.value && total ? done / total : null;
  return (
    <>
      {TABS.map((name) => (
        <a href={`#${name}`} data-step={name} aria-current={tab.value === name ? "page" : undefined} onClick={(event) => show(event, name)}>
          {pageText.tabs[name]}
          {name === "train" && part !== null && <span class="tab-part">{Math.floor(100 * part)} %</span>}
        </a>
      ))}
      {part !== null && <span class="tab-bar" aria-hidden="true" style={{ inlineSize: `${100 * part}%` }} />}
    </>
  );
}

export const ThemeSwitch = () => (
  <button type="button" class="quiet icon-only" id="theme" data-testid="theme" data-theme={theme.value} title={pageText.themes[theme.value]}
    aria-label={pageText.themes[theme.value]} onClick={nextTheme}>
    <Icon name={{ auto: "auto", light: "sun", dark: "moon" }[theme.value]} />
  </button>
);
