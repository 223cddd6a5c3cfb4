import { apply } from "./apply.ts";
import { type CommandLine, isQemu, readCommandLine } from "./command-line.ts";
import { EVENTS } from "./events.ts";
import { parseExact } from "./exact-json.ts";
import type { Fact, Said } from "./fact.ts";
import { FrameReader, type JsonPiece, type Piece, type TextPiece } from "./frames.ts";
import { Guest } from "./guest.ts";
import { kept } from "./kept.ts";
import { type Message, unwrap } from "./message.ts";
import { type Qemucall, QemucallReader } from "./port-trace.ts";
import { type QmpDamage, type QmpReport, reportOf } from "./report.ts";
import { type Stamp, stampOf } from "./stamp.ts";
import { saidBy } from "./text-lines.ts";
import { ioErrorKey, type MonitorEvent, monitorEventOf, monitorSaid, virshLineOf } from "./virsh.ts";

export interface QmpDetectorOptions {
  /** The input as it was named. */
  readonly source: string;
  /** QEMU's command line, as a shell or /proc/PID/cmdline has it. */
  readonly cmdline?: string | undefined;
}

const MAX_GUESTS = 64;
/** Of a logger's line. */
const MAX_INNER = 4000;
/** Events that libvirt logs twice stand near each other. */
const REMEMBERED = 32;
const MAX_QEMUCALLS = 100;
const MAX_COMMAND_LINE = 2 ** 17;

/** Reads what QEMU, libvirt or a trace said of machines: bytes in, findings and events out. */
export class QmpDetector {
  readonly #source: string;
  readonly #given: CommandLine | undefined;
  readonly #frames = new FrameReader((piece) => this.#take(piece));
  readonly #guests = new Map<string, Guest>();
  readonly #damage = new Map<QmpDamage["reason"], { count: number; line: number }>();
  readonly #recent: string[] = [];
  readonly #ports = new QemucallReader();
  readonly #calls: Qemucall[] = [];
  #lastKey = "";
  #ioError: ReturnType<typeof ioErrorKey>;
  #head: Head = { text: "", stamp: {}, event: undefined, monitor: undefined, blank: true };
  #lost = 0;
  /** A command line that goes on over several lines. */
  #command = "";

  constructor({ source, cmdline }: QmpDetectorOptions) {
    this.#source = source;
    this.#given = cmdline === undefined ? undefined : readCommandLine(cmdline.slice(0, MAX_COMMAND_LINE));
  }

  push(bytes: Uint8Array): void {
    this.#frames.push(bytes);
  }

  end(): QmpReport {
    this.#frames.end();
    this.#endCommand();
    const guests = [...this.#guests.values()].map((guest) => reportOf(guest, this.#source));
    const worst = guests.toSorted((a, b) => a.outcome.rank - b.outcome.rank)[0];
    const { name: _, ...shown } = worst ?? reportOf(new Guest("", this.#given), this.#source);
    return {
      source: this.#source,
      ...shown,
      findings: guests.flatMap(({ findings }) => findings),
      events: guests.flatMap(({ events }) => events),
      guests,
      qemucalls: this.#calls,
      damage: [...this.#damage].map(([reason, { count, line }]) => ({ reason, count, line })),
      lostGuests: this.#lost,
    };
  }

  #take(piece: Piece): void {
    if (piece.kind === "json") this.#json(piece);
    else if (piece.kind === "text") this.#text(piece);
    else this.#damaged(piece.reason, piece.line);
  }

  #damaged(reason: QmpDamage["reason"], line: number): void {
    const before = this.#damage.get(reason);
    if (before === undefined) this.#damage.set(reason, { count: 1, line });
    else before.count++;
  }

  #json({ text, head, line }: JsonPiece): void {
    const value = parseExact(text);
    if (value === undefined) {
      this.#damaged("syntax", line);
      return;
    }
    const { event } = this.#readHead(head);
    if (event !== undefined) {
      this.#say(monitorSaid(event, value), { key: event.domain, line, text: `${head}${text}`, head });
      return;
    }
    const { message, t, wall, line: inner } = unwrap(value);
    if (inner !== undefined) this.#inner(inner, line, wall);
    if (message !== undefined) this.#message(message, { line, text, head, t, wall });
  }

  #message(message: Message, place: Omit<Place, "key">): void {
    const key = this.#keyOf(place.head);
    if (message.kind === "event" && this.#isRepeated(key, message.name, message.wall)) return;
    this.#say(message, { ...place, key });
  }

  /** The line of a logger that writes JSON: it may have messages in it itself. */
  #inner(line: string, number: number, wall: number | undefined): void {
    const said = saidBy(line.slice(0, MAX_INNER));
    if (said !== undefined) this.#say(said, { key: "", line: number, text: line, head: line, wall });
    if (!line.includes("{")) return;
    const inside = new FrameReader((piece) => {
      if (piece.kind !== "json") return;
      const { message } = unwrap(parseExact(piece.text) ?? null);
      const { text, head } = piece;
      if (message !== undefined) this.#message(message, { line: number, text, head, wall });
    });
    inside.push(Buffer.from(line));
    inside.end();
  }

  #text({ text, raw, line }: TextPiece): void {
    if (this.#commandLine(raw)) return;
    const event = monitorEventOf(text);
    if (event !== undefined) {
      // Its data stood on the line, unless nothing but the event does.
      if (raw.includes("{")) return;
      this.#say(monitorSaid(event, undefined), { key: event.domain, line, text, head: text });
      return;
    }
    const virsh = virshLineOf(text.trim());
    if (virsh !== undefined) {
      if (this.#isSecondIoError(text.trim())) return;
      this.#say(virsh.said, { key: virsh.domain, line, text, head: text });
      return;
    }
    const said = saidBy(text);
    if (said?.kind === "port") this.#qemucall(said);
    if (said !== undefined) this.#say(said, { key: this.#keyOf(text), line, text: raw, head: text });
  }

  /** libvirt tells of an error on a disk by two events, and `virsh event --all` prints both. */
  #isSecondIoError(line: string): boolean {
    const [before, now] = [this.#ioError, ioErrorKey(line)];
    const isSecond = before !== undefined && now?.of === before.of && now.kind !== before.kind;
    this.#ioError = isSecond ? undefined : now;
    return isSecond;
  }

  #qemucall({ access }: Extract<Said, { kind: "port" }>): void {
    const call = this.#ports.push(access);
    if (call !== undefined && this.#calls.length < MAX_QEMUCALLS) this.#calls.push(call);
  }

  /** Takes the command line that libvirt writes at a start. @returns whether the line is of one */
  #commandLine(raw: string): boolean {
    const goesOn = raw.trimEnd().endsWith("\\");
    if (this.#command === "") {
      const first = raw.trimStart().split(" ", 1)[0]!;
      if (!/^(?:LC_ALL=|PATH=|HOME=)/.test(first) && !(isQemu(first) && / -/.test(raw))) return false;
    }
    if (this.#command.length < MAX_COMMAND_LINE) this.#command += `${raw}\n`;
    if (goesOn) return true;
    this.#endCommand();
    return true;
  }

  #endCommand(): void {
    const found = this.#command === "" ? undefined : readCommandLine(this.#command);
    this.#command = "";
    const guest = found === undefined ? undefined : this.#guestOf("");
    if (guest !== undefined) guest.commandLine = found;
  }

  /** libvirt's log has many machines in it, each with its monitor; what follows a message on lines of its own is of the same. */
  #keyOf(head: string): string {
    const { monitor, blank } = this.#readHead(head);
    if (monitor !== undefined) this.#lastKey = monitor;
    return monitor ?? (blank ? this.#lastKey : "");
  }

  /** What stands before a message; many on one line have the same. */
  #readHead(text: string): Head {
    if (this.#head.text === text) return this.#head;
    this.#head = {
      text,
      stamp: stampOf(text),
      event: monitorEventOf(text),
      monitor: /\bmon=(0x[0-9a-f]{1,16})\b/.exec(text)?.[1],
      blank: text.replace(/\\[rnt]/g, "").trim() === "",
    };
    return this.#head;
  }

  /** libvirt logs an event as it comes in and again as it is understood. */
  #isRepeated(key: string, name: string, wall: number | undefined): boolean {
    if (wall === undefined || !Object.hasOwn(EVENTS, name)) return false;
    const id = `${key} ${wall} ${name}`;
    if (this.#recent.includes(id)) return true;
    this.#recent.push(id);
    if (this.#recent.length > REMEMBERED) this.#recent.shift();
    return false;
  }

  #guestOf(key: string): Guest | undefined {
    const known = this.#guests.get(key);
    if (known !== undefined) return known;
    if (this.#guests.size === MAX_GUESTS) {
      this.#lost++;
      return undefined;
    }
    const guest = new Guest(key, this.#given);
    this.#guests.set(key, guest);
    return guest;
  }

  #say(said: Said, place: Place): void {
    const guest = this.#guestOf(place.key);
    if (guest === undefined) return;
    const { stamp } = this.#readHead(place.head);
    const wall = (said.kind === "event" ? said.wall : undefined) ?? place.wall ?? stamp.wall;
    const fact: Fact = {
      line: place.line,
      text: kept(place.text.trim()),
      wall,
      t: place.t ?? stamp.t,
    };
    apply(guest, fact, said);
  }
}

/** What is read of the text before a message. */
interface Head {
  readonly text: string;
  readonly stamp: Stamp;
  /** An event of virsh, whose data the message is. */
  readonly event: MonitorEvent | undefined;
  readonly monitor: string | undefined;
  readonly blank: boolean;
}

interface Place {
  readonly key: string;
  readonly line: number;
  readonly text: string;
  readonly head: string;
  readonly t?: number | undefined;
  readonly wall?: number | undefined;
}
