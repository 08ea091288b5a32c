// The hub's part of the dialog: the field for a repository, some to begin with, and what one holds.

import { useEffect, useRef } from "preact/hooks";
import { focusNext } from "../../dom";
import { formatBytes } from "../../format";
import type { HubOffer } from "../../protocol";
import { Bar } from "../../shell/parts";
import { site, type Site, type Starter } from "../../site";
import { fetching } from "../../store/chat";
import { modelText } from "../../text";
import { checked, choose, chosen, fetchModel, hubName, hubProblem, isLooking, listed, look, modelProblem, stopFetching, takeModel } from "./hub";

type Hub = NonNullable<Site["hub"]>;

export const HubPanel = () => site.hub && <HubOf hub={site.hub} />;

function HubOf({ hub }: { hub: Hub }) {
  const problem = hubProblem.value;
  const ask = (event: Event): void => {
    event.preventDefault();
    if (!hubName.peek().trim()) focusNext("hub-name");
    look(hubName.peek());
  };
  return (
    <section aria-labelledby="hub-title">
      <h3 id="hub-title"><label for="hub-name">{modelText.repository}</label></h3>
      <form class={problem ? "hub-form wrong" : "hub-form"} id="hub-form" onSubmit={ask}>
        <div class="hub-ask">
          <input id="hub-name" data-testid="hub-name" type="text" placeholder={modelText.name} maxLength={400} autoComplete="off" autoCapitalize="none"
            spellcheck={false} aria-describedby="hub-promise hub-problem" aria-invalid={problem !== ""} value={hubName.value}
            onInput={(event) => (hubName.value = event.currentTarget.value)} />
          <button class="secondary" id="hub-look" data-testid="hub-look" disabled={isLooking.value}>
            {isLooking.value ? modelText.looking : modelText.look}
          </button>
        </div>
        <p class="field-error" id="hub-problem" data-testid="hub-problem" role="alert">{problem}</p>
        <p class="hint" id="hub-promise">
          {modelText.promise(hub.host, hub.file_hosts).map((part, index) => (index % 2 ? <b>{part}</b> : part))}
        </p>
      </form>
      <Starters starters={hub.starters} />
      <Listing />
    </section>
  );
}

function Starters({ starters }: { starters: readonly Starter[] }) {
  const fold = useRef<HTMLDetailsElement>(null);
  const isListed = listed.value !== null;
  useEffect(() => {
    if (isListed && fold.current) fold.current.open = false; // it has done its work
  }, [isListed]);
  const begin = (name: string): void => {
    hubName.value = name;
    look(name);
  };
  return (
    <details class="fold" id="hub-starters" open ref={fold}>
      <summary>{modelText.starters}</summary>
      <ul class="starters">
        {starters.map(({ name, repository, word, licence }) => (
          <li>
            <button type="button" class="model-pick" data-hub-name={name} onClick={() => begin(name)}>
              <span class="model-title">{repository.split("/")[1]}</span>
              <span class="model-about">{word}</span>
              <span class="model-about">{licence}</span>
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}

function Listing() {
  const now = listed.value;
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (now) box.current?.scrollIntoView({ block: "nearest" });
  }, [now?.repository, now?.revision]);
  return (
    <div id="hub-listing" data-testid="hub-listing" hidden={!now} ref={box}>
      <p class="hub-head">
        <strong id="hub-repository">{now?.repository}</strong>{" "}
        <span class="hint" id="hub-about">{now && [now.licence, modelText.commit(now.revision.slice(0, 7))].filter(Boolean).join(" · ")}</span>
      </p>
      <p class="hub-note" id="hub-note" hidden={!now?.note}>{now?.note}</p>
      <ul class="model-list" id="hub-models">{now?.models.map((one) => <Offer key={one.id} offer={one} />)}</ul>
    </div>
  );
}

function Offer({ offer }: { offer: HubOffer }) {
  const { id, title, form, size_bytes, kept } = offer;
  const known = checked.value.get(id);
  const refused = offer.refused || (known?.verdict === "refused" ? known.words : "");
  const isOpen = chosen.value === id && !refused;
  const words = (
    <>
      <span class="model-title">{title}</span>
      <span class="model-about">{[formatBytes(size_bytes), form, kept ? modelText.keptHere : ""].filter(Boolean).join(" · ")}</span>
    </>
  );
  return (
    <li data-testid="hub-model" data-id={id} data-refused={refused !== ""} data-chosen={refused ? undefined : isOpen}>
      {refused
        ? <div class="model-row refused"><div class="model-words">{words}<span class="model-refused">{refused}</span></div></div>
        : <button type="button" class="model-pick" aria-expanded={isOpen} onClick={() => choose(isOpen ? null : id)}>{words}</button>}
      {isOpen && <Detail offer={offer} />}
    </li>
  );
}

/** What is known of the chosen model, and what can be done with it. */
function Detail({ offer: { id, size_bytes, kept } }: { offer: HubOffer }) {
  const known = checked.value.get(id);
  const problem = modelProblem.value?.id === id ? modelProblem.value.message : "";
  const fits = known?.verdict !== "too large";
  const isBusy = fetching.value !== null;
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current?.scrollIntoView({ block: "nearest" }), [known, problem, isBusy]); // what it grows by is what was asked for
  return (
    <div class="model-detail" ref={box}>
      {known && (
        <>
          <p class="model-verdict" data-verdict={known.verdict} data-testid="hub-verdict">
            <span class="lamp" aria-hidden="true" /><span>{known.words}</span>
          </p>
          <p class="hint">{known.about}</p>
        </>
      )}
      {!known && !problem && <p class="hint" role="status">{modelText.readingHeader}</p>}
      {problem && <p class="field-error" data-testid="hub-model-problem" role="alert">{problem}</p>}
      {fetching.value?.id === id ? <Fetching /> : (
        <div class="problem-buttons">
          {kept && (
            <button type="button" class="primary small" data-testid="hub-open" onClick={() => takeModel({ kept: id })}>{modelText.open}</button>
          )}
          {!kept && known && (
            <button type="button" class={fits ? "primary small" : "secondary small"} data-testid="hub-fetch" disabled={isBusy}
              title={isBusy ? modelText.oneAtATime : undefined} onClick={() => fetchModel(id)}>
              {fits ? modelText.download(size_bytes) : modelText.downloadAnyway}
            </button>
          )}
          {problem && !known && (
            <button type="button" class="secondary small" onClick={() => choose(id)}>{modelText.tryAgain}</button>
          )}
        </div>
      )}
    </div>
  );
}

/** How far the model is that is being fetched. */
export function Fetching() {
  const { done_bytes = 0, total_bytes, rate_bytes_per_s, left_ms, waits } = fetching.value ?? {};
  const speed = waits ? modelText.brokeOff : rate_bytes_per_s ? modelText.rate(rate_bytes_per_s) : "";
  const left = !waits && left_ms != null && left_ms > 1500 ? modelText.left(left_ms) : "";
  const words = total_bytes ? [modelText.fetched(done_bytes, total_bytes), speed, left].filter(Boolean).join(", ") : modelText.asking;
  return (
    <div class="fetching" id="hub-fetch" data-testid="hub-progress">
      <Bar label={modelText.fetching} part={total_bytes ? done_bytes / total_bytes : null} />
      <div class="fetching-row">
        <span class="hint">{words}</span>
        <button type="button" class="secondary small" data-testid="hub-stop" onClick={stopFetching}>{modelText.stop}</button>
      </div>
    </div>
  );
}
