/** Most of a line that is kept: consoles' own are shorter. */
const MAX_LINE = 2 ** 16;
/** stdout, stderr, and whatever else somebody calls a stream. */
const MAX_STREAMS = 8;

/** Lines that came in several records, each of one stream of a container. */
export class PartialLines {
  readonly #open = new Map<string, { text: string; readonly time: string | undefined }>();

  /** @returns the line when its last part has come; nothing before */
  add(stream: string, text: string, goesOn: boolean, time: string | undefined): string {
    const before = this.#open.get(stream);
    const part = before ?? { text: "", time };
    part.text += text.slice(0, Math.max(0, MAX_LINE - part.text.length));
    if (goesOn && (before !== undefined || this.#open.size < MAX_STREAMS)) {
      this.#open.set(stream, part);
      return "";
    }
    this.#open.delete(stream);
    return dated(part.text, part.time);
  }

  /** What has not ended. */
  end(): string {
    const lines = [...this.#open.values()].map(({ text, time }) => dated(text, time));
    this.#open.clear();
    return lines.join("\r");
  }
}

const DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/;
/** A message that has a date of its own keeps that. */
const HAS_DATE = /^\[?(?:\d{4}[-/]\d\d[-/]\d\d[T ]|[A-Z][a-z]{2} )/;

/** A line with its logger's date in front, as other loggers write it; a date without a zone is nobody's clock. */
export const dated = (text: string, time: string | undefined): string =>
  text === "" || time === undefined || !DATE.test(time) || HAS_DATE.test(text) ? text : `${time} ${text}`;
