/** What a warning code means and what cures it: the text behind `guestcore explain CODE`. */
export interface Explanation {
  readonly title: string;
  readonly meaning: string;
  readonly cure: string;
}
