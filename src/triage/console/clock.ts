import type { Boot } from "./boots.ts";

/** Stamps of several CPUs are out of order by less; seconds. */
const BACK = 1;
/** A kernel whose clock shows less has just begun, whether or not its banner is in the log. */
const YOUNG = 2;

/** Whether a line's time lies before that of lines above it by more than CPUs differ. */
export const wentBack = (boot: Boot, uptime: number): boolean => uptime < boot.clock - BACK;

/** Whether the clock is back where the log was that lines without a banner are a quotation in. */
export const cameBack = ({ banner, outer, latest }: Boot, uptime: number): boolean =>
  !banner && outer !== undefined && uptime >= outer.clock && latest < outer.clock;

/** Whether a boot whose banner is not in the log can be one: its first time is that of a kernel that has just begun. */
export const canBegin = (uptime: number): boolean => uptime < YOUNG;
