// The conversation as it stands, what there is to begin with, and the way to its end.

import { useSignalEffect } from "@preact/signals";
import { Component, Fragment } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { focusNext, wantsStill } from "../dom";
import { Icon } from "../shell/parts";
import { canSend, cleared, cut, shownWording, suggestions, turns, type AdapterUse, type Turn } from "../store/chat";
import { chatText } from "../text";
import { ask, asked, bringBack } from "./conversation";
import { TurnView } from "./turn";

const NEAR_PX = 80; // so far from its end one still reads the newest
const NOBODY: readonly AdapterUse[] = [];

/** Who answers a turn: of a question the reply's writer. */
function writerOf(all: readonly Turn[], place: number): readonly AdapterUse[] {
  const answer = all[place]?.role === "user" ? all[place + 1] : all[place];
  return answer ? shownWording(answer).adapters : NOBODY;
}

interface RowProps {
  readonly turn: Turn;
  readonly by: readonly AdapterUse[];
  readonly isLast: boolean;
}

/** A turn, drawn again when it is another one: a long conversation costs no more than a short one at each reply. */
class Row extends Component<RowProps> {
  override shouldComponentUpdate(next: RowProps): boolean {
    const { turn, by, isLast } = this.props;
    return turn !== next.turn || by !== next.by || isLast !== next.isLast;
  }

  override render(props: RowProps) {
    return <TurnView {...props} />;
  }
}

export function Log() {
  const box = useRef<HTMLDivElement>(null);
  const log = useRef<HTMLDivElement>(null);
  const follows = useRef(true); // goes along with what is written, until somebody scrolls up
  const [isAtEnd, setAtEnd] = useState(true);
  const look = (): void => {
    const { scrollHeight, scrollTop, clientHeight } = box.current!;
    follows.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
    setAtEnd(follows.current);
  };
  const toEnd = (isSmooth = false): void => {
    box.current?.scrollTo({ top: box.current.scrollHeight, behavior: isSmooth && !wantsStill() ? "smooth" : "auto" });
  };
  useEffect(() => {
    const grown = new ResizeObserver(() => (follows.current ? toEnd() : look()));
    for (const one of [log, box]) grown.observe(one.current!); // an error or a long message takes of the box's height
    return () => grown.disconnect();
  }, []);
  useSignalEffect(() => {
    if (asked.value) follows.current = true; // what was just asked is looked at
  });
  const all = turns.value;
  return (
    <div class="chat-frame">
      <div class="chat-scroll" id="chat-scroll" tabIndex={0} role="region" aria-label={chatText.conversation} ref={box} onScroll={look}>
        <Beginning isShown={all.length === 0} />
        <div class="chat-log" data-testid="chat-log" id="chat-log" role="log" aria-live="polite" aria-relevant="additions" ref={log}>
          {all.map((turn, place) => (
            <Fragment key={turn.key}>
              {cut.value > 0 && cut.value === place && <p id="chat-cut" class="chat-cut" role="note" data-testid="chat-cut">{chatText.cut}</p>}
              <Row turn={turn} by={writerOf(all, place)} isLast={place === all.length - 1} />
            </Fragment>
          ))}
        </div>
      </div>
      <button type="button" class="jump" id="chat-newest" data-testid="chat-newest" hidden={isAtEnd || all.length === 0} aria-label={chatText.newest}
        title={chatText.newest} onClick={() => (toEnd(true), focusNext("chat-input"))}>
        <Icon name="down" />
      </button>
    </div>
  );
}

function Beginning({ isShown }: { isShown: boolean }) {
  return (
    <div class="chat-empty" id="chat-empty" hidden={!isShown}>
      <Icon name="chat" big />
      <p id="chat-empty-text">{chatText.empty}</p>
      <div class="suggestions" id="suggestions">
        {suggestions.value.map((question) => (
          <button type="button" class="suggestion" disabled={!canSend.value} onClick={() => ask(question)}>{question}</button>
        ))}
      </div>
      {cleared.value && (
        <p class="chat-cleared" data-testid="chat-cleared">
          {chatText.wasCleared(cleared.value.count)}{" "}
          <button type="button" class="secondary small" data-testid="chat-bring-back" onClick={() => void bringBack()}>{chatText.bringBack}</button>
        </p>
      )}
    </div>
  );
}
