import type { System } from "./signature.ts";

/** One boot of a console's log. */
export interface BootFacts {
  /** From 1. */
  readonly number: number;
  readonly firstLine: number;
  readonly lastLine: number;
  /** `uname -r`, or what another system calls itself; undefined where no banner is in the log. */
  readonly release: string | undefined;
  readonly commandLine: string | undefined;
  /** A kernel that was started to save the memory of one that crashed, and no reboot. */
  readonly kdump: boolean;
  /** Seconds by the kernel's clock at its last line. */
  readonly uptime: number | undefined;
  /** How it ended, where its last words say so. */
  readonly end: "power-down" | "restart" | "kexec" | "panic" | undefined;
  /** Whether the log says that a vmcore was saved. */
  readonly dumpSaved: boolean;
}

/** What a boot is while its lines are read. */
export class Boot implements BootFacts {
  readonly number: number;
  readonly firstLine: number;
  lastLine: number;
  release: string | undefined;
  commandLine: string | undefined;
  kdump = false;
  end: BootFacts["end"];
  dumpSaved = false;
  system: System | undefined;
  /** Latest time of its lines; -1 without any. */
  clock = -1;
  /** Time of its line before this. */
  latest = -1;
  /** Lines with the kernel's time. */
  stamped = 0;
  /** Those of them that show their level. */
  levelled = 0;
  /**
   * The boot that it may be a quotation in: it began without the other having ended. A log that is printed into another is
   * left when the clock jumps back to where it was.
   */
  outer: Boot | undefined;
  /** Whether it said that it would end. */
  isEndTold = false;
  /** What became of its early console; a log that is printed again on the next begins anew. */
  earlyConsole: "enabled" | "disabled" | undefined;
  /** Whether something in it failed that it is not known to have outlived. */
  hasFailed = false;
  /** Its banner as a console shows it; undefined without one, and in a journal. */
  shown: string | undefined;
  /** Whether somebody at a shell had it printed: it goes on until the shell asks again, or the outer boot's clock goes on. */
  isPrinted = false;
  /** Lines that it printed after its end. */
  afterDeath = 0;
  /** Whether it began with a banner; else with a clock that went back. */
  readonly banner: boolean;

  constructor(number: number, line: number, banner: boolean, outer?: Boot) {
    this.number = number;
    this.firstLine = line;
    this.lastLine = line;
    this.banner = banner;
    this.outer = outer;
  }

  /** A line has this time. */
  tick(uptime: number): void {
    this.stamped++;
    this.latest = uptime;
    if (uptime > this.clock) this.clock = uptime;
  }

  get uptime(): number | undefined {
    return this.clock < 0 ? undefined : this.clock;
  }

  facts(): BootFacts {
    const { number, firstLine, lastLine, release, commandLine, kdump, uptime, end, dumpSaved } = this;
    return { number, firstLine, lastLine, release, commandLine, kdump, uptime, end, dumpSaved };
  }
}

/** A log has the kernel's time when so many of its lines do. */
export const STAMPED_LINES = 2;
export const hasOwnTime = ({ stamped }: Boot): boolean => stamped >= STAMPED_LINES;
