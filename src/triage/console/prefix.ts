/** A line of a console, freed of what stands in front of its message. */
export interface ConsoleLine {
  /** From 1. */
  readonly number: number;
  /** As it was, without escapes; one byte a character. */
  readonly raw: string;
  readonly text: string;
  /** Seconds since boot by the kernel's stamp. */
  readonly uptime: number | undefined;
  /** Milliseconds since 1970 by a stamp that has date and zone. */
  readonly wall: number | undefined;
  /** Who called printk: `T123` a task, `C1` a CPU in interrupt context (CONFIG_PRINTK_CALLER). */
  readonly caller: string | undefined;
  /** Whether its level stood before its stamp, `<4>`. */
  readonly isLevelled: boolean;
}

/**
 * `[   12.345678]`, with the caller behind it (kernel/printk/printk.c: print_prefix()); with the time since the line before,
 * `[   12.345678 <    0.000001>]`, of dmesg -d and `journalctl -o short-delta`.
 */
const STAMP =
  /^\[ {0,6}(\d{1,10})\.(\d{1,9})(?:@\d{1,3}| <[ \d.]{1,24}>)?\](?: ?\[ {0,7}([CT]\d{1,10})\])?(?::? |(?=\[)|$)?/;
const MIDDLE_STAMP = /\[ {0,4}\d{1,8}\.\d{6}\](?:\[ {0,7}[CT]\d{1,10}\])? /;
/** Level of a record in a dump of the log, a syslog priority: `<4>`. */
const LEVEL = /^<\d{1,3}>/;
/** `2024-01-02T03:04:05.678Z `, `[2024-01-02 03:04:05] `, `2024/01/02 03:04:05 `. */
const ISO =
  /^\[?(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?\]?:? {0,2}/;
/** `Jan  2 03:04:05 `, of syslog and ts(1). */
const SYSLOG = /^(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})? /;
/** `Thu 2026-11-26 01:02:03 UTC `, of `journalctl -o short-full`. */
const FULL = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})? \S{1,8} /;
/** `[Mon Jan  1 00:00:00 2024] `, of dmesg -T. */
const DMESG_TIME = /^\[(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] /;
/** `kern  :warn  : `, of dmesg -x. */
const DMESG_LEVEL = /^[a-z]{3,8} {0,5}:[a-z]{3,6} {0,5}: /;
/** Seconds since 1970, of `ts %s`. */
const EPOCH = /^\d{10}(?:\.\d{1,9})? /;
/** What a name, a quotation or an assignment ends in. */
const NAMES = /[:=>|"'] ?$/;
const TIME = /^\[?\d\d:\d\d:\d\d(?:\.\d{1,9})?\]?:? /;
const DROPPED = /^\*\* \d{1,10} printk messages dropped \*\* ?/;
/** `host kernel: `, behind the stamp of `journalctl -o short-monotonic`. */
const STAMPED_HOST = /^[\w.-]{1,64} kernel: /;
/** Host and program of syslog; without `kernel` what follows is a program's. */
const HOST_KERNEL = /^(?:[\w.:-]{1,64} )?kernel: ?/;
const HOST_PROGRAM = /^[\w.-]{1,64} (?=[\w./-]{1,48}\[\d{1,10}\]: )/;
const LOGIN = /^[\w.@ -]{0,64}\b(?:login|[Pp]assword): /;

/** How somebody quotes: mail, a comment, a diff, a list. What stands behind a prompt's `#` may be the kernel's. */
const QUOTED = /^(?:[>|]|\/\/|[-+*](?: |$))/;

/** The same behind something else. */
const QUOTES = /[\s|](?:[>#+*-]|\/\/)\s{0,8}$/;

/** Whether what stands before a stamp marks a quotation. */
export const isQuoted = (text: string): boolean =>
  QUOTED.test(text) || /^(?:#|\s*$|\s+\S)/.test(text) || QUOTES.test(text);

/** `min - 1 ≤ uptime` is asked of a stamp inside a line: one of a quotation is older. */
const SLACK = 1;

const secondsOf = (whole: string, part: string): number => Number(whole) + Number(`0.${part}`);

function wallOf(match: RegExpExecArray): number | undefined {
  const [, year, month, day, hour, minute, second, part = "0", zone] = match;
  if (zone === undefined) return undefined;
  const offset = zone === "Z" ? zone : zone.replace(/^(...):?(..)$/, "$1:$2");
  const wall = Date.parse(
    `${year}-${month}-${day}T${hour}:${minute}:${second}.${part.padEnd(3, "0").slice(0, 3)}${offset}`,
  );
  return Number.isNaN(wall) ? undefined : wall;
}

/** When a line was, by the date that a logger put first. */
export function wallOfLine(raw: string): number | undefined {
  const iso = ISO.exec(raw);
  return iso === null ? undefined : wallOf(iso);
}

/** What loggers put in front of a line: dates, host names, `kernel:`; and the message behind them. */
function withoutLogger(raw: string): { readonly text: string; readonly wall: number | undefined } {
  let text = raw;
  let wall: number | undefined;
  const iso = ISO.exec(text);
  if (iso !== null) {
    wall = wallOf(iso);
    text = text.slice(iso[0].length);
  } else {
    for (const stamp of [SYSLOG, FULL, DMESG_TIME, TIME, EPOCH]) {
      const [found = ""] = stamp.exec(text) ?? [];
      text = text.slice(found.length);
      if (found !== "") break;
    }
  }
  const logged = text !== raw;
  text = text.replace(HOST_KERNEL, "");
  if (logged) text = text.replace(HOST_PROGRAM, "");
  return { text: text.replace(DMESG_LEVEL, ""), wall };
}

/** Whether a stamp inside a line is this kernel's: none of a quotation, whose clock is behind. */
const isOfThisBoot = (before: string, uptime: number, clock: number): boolean =>
  !QUOTED.test(before) &&
  (clock < 0 ? !isQuoted(before) && (LOGIN.test(before) || !NAMES.test(before)) : uptime >= clock - SLACK);

/**
 * Takes a line apart.
 * @param clock the latest time of this boot: a stamp in the middle of a line counts only when it is not older
 * @param logged when it was, by a logger whose wrapper it was freed of
 */
export function parseLine(raw: string, number: number, clock: number, logged?: number): ConsoleLine {
  const { text: unlogged, wall = logged } = withoutLogger(raw);
  const isLevelled = LEVEL.test(unlogged);
  let text = unlogged.replace(LEVEL, "").replace(DROPPED, "");
  let stamp = STAMP.exec(text);
  if (stamp === null) {
    const middle = MIDDLE_STAMP.exec(text);
    const found = middle === null ? null : STAMP.exec(text.slice(middle.index));
    if (
      found !== null &&
      isOfThisBoot(text.slice(0, middle!.index), secondsOf(found[1]!, found[2]!), clock)
    ) {
      text = text.slice(middle!.index);
      stamp = found;
    }
  }
  if (stamp === null) {
    text = text.replace(LOGIN, "");
    return { number, raw, text, uptime: undefined, wall, caller: undefined, isLevelled };
  }
  const message = text.slice(stamp[0].length).replace(LEVEL, "").replace(STAMPED_HOST, "");
  const uptime = secondsOf(stamp[1]!, stamp[2]!);
  return { number, raw, text: message, uptime, wall, caller: stamp[3], isLevelled };
}

/**
 * Where in a line the next one of the kernel begins, when two CPUs wrote at once and a line break was lost; -1 when there is
 * none. What stands in front ends in no name or quotation mark, and the stamp is not older than the one in front of it.
 */
export function innerLine(raw: string): number {
  const first = STAMP.exec(raw);
  if (first === null) return -1;
  const inner = MIDDLE_STAMP.exec(raw.slice(first[0].length));
  if (inner === null) return -1;
  const at = first[0].length + inner.index;
  const second = STAMP.exec(raw.slice(at));
  if (second === null || NAMES.test(raw.slice(0, at))) return -1;
  return secondsOf(second[1]!, second[2]!) >= secondsOf(first[1]!, first[2]!) - SLACK ? at : -1;
}
