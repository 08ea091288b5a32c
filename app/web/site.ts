// What the page knows of the site that it stands in. The build puts it in place of SITE (build_tools/site.py, `_about`).

/** A dataset of app/samples/. */
export interface Sample {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly rows: number;
  readonly size_bytes: number;
  readonly settings?: { readonly steps?: number }; // that suit it, as its JSON says
}
/** A small model of the hub to begin with: `name` as it is looked up, `word` what speaks for it. */
export interface Starter {
  readonly name: string;
  readonly repository: string;
  readonly word: string;
  readonly licence: string;
}
/** Several settings at one press: factors of the steps that suit the data, and of the adapter's usual rank and alpha. */
export interface Preset {
  readonly label: string;
  readonly help: string;
  readonly steps: number;
  readonly size: number;
}
export interface Site {
  readonly models: { readonly default: string | null; readonly titles: Readonly<Record<string, string>> };
  readonly hub: { readonly host: string; readonly file_hosts: string; readonly starters: readonly Starter[] } | null;
  readonly samples: readonly Sample[];
  readonly presets: readonly Preset[];
}

declare const SITE: Site;
const NONE: Site = { models: { default: null, titles: {} }, hub: null, samples: [], presets: [] }; // where a test runs a module by itself

export const site: Site = typeof SITE === "undefined" ? NONE : SITE;
