/** When a line was written, as far as it says. */
export interface Stamp {
  /** Unix time in ms. */
  readonly wall?: number;
  /** Seconds since something of the writer's choice. */
  readonly t?: number;
}

/** `2024-09-30 16:30:49.506+0000` (libvirt), `2018-11-23T23:37:57.946548Z` (-msg timestamp=on); UTC where no zone stands. */
const ISO =
  /(?:^|[\s[(])(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?/;
/** `1700000000.123456` of strace -ttt and ts %.s, `4711@1700000000.123456:` of QEMU's log trace back end. */
const EPOCH = /^\s*(?:\[pid +\d{1,10}\]\s?|\d{1,10}[ @]\s?)?\[?(\d{9,10})\.(\d{1,9})\]?[\s:]/;
/** `12.345678` of ts -s and strace -r. */
const RELATIVE = /^\s*\[?\s{0,8}(\d{1,8}\.\d{1,9})\]?:?\s/;
/** Stamps stand in front. */
const LOOKED_AT = 160;

/** The time stamp at the beginning of a line. */
export function stampOf(line: string): Stamp {
  const head = line.slice(0, LOOKED_AT);
  const iso = ISO.exec(head);
  if (iso !== null) {
    const wall = isoTime(iso);
    if (wall !== undefined) return { wall };
  }
  const epoch = EPOCH.exec(head);
  if (epoch !== null) return { wall: Number(epoch[1]) * 1000 + Number(`0.${epoch[2]}`) * 1000 };
  const relative = RELATIVE.exec(head);
  return relative === null ? {} : { t: Number(relative[1]) };
}

function isoTime([, year, month, day, hour, minute, second, fraction, zone]: RegExpExecArray):
  | number
  | undefined {
  const base = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour),
    Number(minute),
    Number(second),
  );
  if (Number.isNaN(base)) return undefined;
  return base + Number(`0.${fraction ?? "0"}`) * 1000 - zoneMs(zone);
}

function zoneMs(zone: string | undefined): number {
  if (zone === undefined || zone === "Z") return 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(-2));
  return (zone.startsWith("-") ? -minutes : minutes) * 60_000;
}

/** What a libvirt or QEMU log line says after its time stamp. */
export function bodyOf(line: string): string {
  const body = line.replace(
    /^\s*\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\s?(?:Z|[+-]\d\d:?\d\d)?:?\s?/,
    "",
  );
  return body.trim();
}
