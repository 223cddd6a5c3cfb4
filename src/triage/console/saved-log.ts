import type { Boot } from "./boots.ts";
import type { ConsoleLine } from "./prefix.ts";

/** fs/pstore/platform.c: pstore_dump(), the first line of a record; kernel/printk/printk.c: kmsg_dump_reason_str() */
const HEADER = /^(?:Panic|Oops|Emergency|Shutdown|Restart|Halt|Poweroff|Unknown)#\d{1,6} Part\d{1,4}$/;
/** Stamps of several CPUs are out of order by less; seconds. */
const SLACK = 1;
/** A log whose lines have no level when so many have none. */
const PLAIN = 2;

/** A shell's prompt, and what was typed behind it. */
const PROMPT =
  /^(?:\[?[\w.-]{1,40}@[\w.:-]{1,40}[^#$%>]{0,80}|[\w.-]{0,40}:?[~/][\w./~-]{0,80}|\([\w-]{1,24}\)|bash-[\d.]{1,8}|sh-[\d.]{1,8})\]? ?[#$%>](?: |$)/;
const PRINTS =
  /[#$%>] (?:sudo )?(?:cat|zcat|xzcat|zstdcat|less|more|head|tail|strings|z?grep|dmesg|journalctl|coredumpctl)\b/;

/** Whether somebody asks for a command. */
export const isShellPrompt = (text: string): boolean => PROMPT.test(text);

/** Whether a line is a shell's, with a command that prints what was logged: a boot right behind it is an old one. */
export const printsLog = (text: string): boolean => PROMPT.test(text) && PRINTS.test(text);

/**
 * The log of the last boot that somebody prints on this one's console: from the header of a record until this kernel's clock
 * goes on; or lines that show their level, `<4>`, in a log whose others do not.
 */
export class SavedLog {
  /** The log is itself such a record. */
  #isRecord = false;
  #isOpen = false;
  /** Whether its lines show their level; undefined before the first. */
  #isLevelled: boolean | undefined;
  #latest = -1;

  /** Whether the next lines may belong to it. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Whether a line is of such a log. */
  has(line: ConsoleLine, boot: Boot): boolean {
    const { uptime, text, isLevelled } = line;
    if (uptime === undefined) {
      if (HEADER.test(text)) return this.#begin(boot);
      return this.#isOpen && isLevelled;
    }
    if (this.#isOpen && !this.#isOver(line, uptime, boot)) {
      this.#isLevelled ??= isLevelled;
      this.#latest = uptime;
      return true;
    }
    this.#isOpen = false;
    return isLevelled && boot.levelled === 0 && boot.stamped >= PLAIN;
  }

  #begin(boot: Boot): boolean {
    if (boot.clock < 0) this.#isRecord = true;
    if (this.#isRecord) return false;
    this.#isOpen = true;
    this.#isLevelled = undefined;
    this.#latest = -1;
    return true;
  }

  /** Whether the kernel that prints it speaks again. */
  #isOver({ isLevelled, text }: ConsoleLine, uptime: number, { clock }: Boot): boolean {
    if (this.#isLevelled === undefined) return false;
    if (this.#isLevelled) return !isLevelled;
    const isBack = uptime < this.#latest - SLACK;
    if (text.startsWith("Linux version ")) return isBack;
    if (uptime < clock - SLACK) return false;
    return isBack || this.#latest < clock - SLACK;
  }
}
