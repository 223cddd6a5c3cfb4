import { VERDICTS } from "../triage/verdict/types.ts";

/** What `virsh event` and `virsh qemu-monitor-event` print. */
const OF_DOMAIN = /^.{0,60}event ['"A-Z_a-z-]{1,60} (?:at .{1,80})?$/;
const FOR_DOMAIN = "for domain ";
/** Longest that stands before it. */
const MAX_EVENT = 220;

/** Whether a text has events that name the domain they are of. */
export function namesDomains(text: string): boolean {
  for (let at = text.indexOf(FOR_DOMAIN); at >= 0; at = text.indexOf(FOR_DOMAIN, at + 1)) {
    const before = text.slice(Math.max(0, at - MAX_EVENT), at);
    if (OF_DOMAIN.test(before.split(/[\r\n]/).at(-1)!)) return true;
  }
  return false;
}

/**
 * The shapes of QMP's messages, bare or in a transcript's wrapper: other programs log JSON too. Behind words of which a text
 * has one that is of such a shape: most have none, and a search for words takes a hundredth of the time.
 */
const QMP_LINES: readonly (readonly [words: readonly string[], line: RegExp])[] = [
  [
    ['"QMP"', '"return"', '"execute"', '"exec-oob"', '"class"'],
    /^.{0,200}\{ ?"(?:QMP" ?: ?\{|return" ?:|(?:execute|exec-oob)" ?: ?"|error" ?: ?\{ ?"class" ?:)/m,
  ],
  [['"dir"'], /^.{0,200}\{ ?"t" ?: ?[\d.]{1,20}, ?"dir" ?: ?"/m],
  [['seconds"'], /^.{0,2000}"timestamp"\s{0,8}:\s{0,8}\{\s{0,40}"(?:micro)?seconds"\s{0,8}:/m],
  [['"event"'], /^(?=.{0,2000}"(?:timestamp|time|ts|t)" ?:).{0,2000}"event" ?: ?"[A-Z][A-Z0-9_]{2,60}"/m],
  [['"QMP"', '"return"'], /^\{\s{1,40}"(?:QMP"\s{0,8}:\s{0,8}\{|return"\s{0,8}:)/m],
  [["QEMU_MONITOR_"], /^.{0,200}QEMU_MONITOR_(?:RECV_EVENT|IO_PROCESS|RECV_REPLY)/m],
  [['"virt-launcher"'], /^.{0,80}\{"component": ?"virt-launcher"/m],
];

/** Whether a text has messages of QMP, or of who logs them. */
export const isQmp = (text: string): boolean =>
  namesDomains(text) ||
  QMP_LINES.some(([words, line]) => words.some((word) => text.includes(word)) && line.test(text));

/** How each form of a report of guestcore begins (src/report/triage-*.ts, src/report/json.ts). */
const REPORTS: readonly RegExp[] = [
  /^\{\s{0,4}"schema": ?"guestcore\//,
  /^# guestcore triage\n/,
  /^<\?xml version="1\.0" encoding="UTF-8"\?>\n<testsuites name="guestcore triage"/,
  // The policy is written like that by nobody else; the program's name is behind what guests said.
  /^<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">\n<meta name="viewport"/,
  /^TAP version 14\n1\.\.\d{1,6}\n(?:not )?ok 1 - .{1,4000}\n {2}---\n {2}verdict: /,
  /^\{"type":"(?:finding|verdict)","vm":"/,
  new RegExp(
    `^.{1,4000}: (?:${VERDICTS.join("|")}): .{0,4000}  \\((?:certain|likely|possible)\\)\n  (?:why {8}|fails because of --fail-on )`,
  ),
  new RegExp(
    `^::(?:error|warning|notice) (?:file=.{1,4000},)?title=.{1,4000}%3A (?:${VERDICTS.join("|")})[:%]`,
  ),
  // Of single detectors: console, qmp, pstore, rtas and mce.
  /^.{1,4000}:\d{1,9}: (?:panic|oops|hang|warning|notice): .{0,4000}\n {2}lines? \d{1,9}(?: to \d{1,9})?, /,
  /^.{1,4000}: .{0,4000}\n {2}QEMU .{1,200}, last state .{1,200}\n {2}policy: a panic means /,
  /^.{1,4000}: \d{1,9} records?, \d{1,9} crash(?:es)?\n\n(?:panic|oops): .{0,4000}\n {2}when {4}/,
];

/** Whether a text is a report of guestcore's own, which quotes the artefacts it was made of. */
export const isOwnReport = (text: string): boolean => REPORTS.some((form) => form.test(text));
