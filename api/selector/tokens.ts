import { SelectorError } from './error.ts';

/** Longest label key that a selector may use. */
export const maxLabelLength = 512;

/** `text` is the label key of `label` and `has`, and the value of `string`; else the token as it is written. */
export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** Where it starts, from 0. */
  readonly position: number;
}

export type TokenKind =
  | '('
  | ')'
  | '{'
  | '}'
  | ','
  | '!'
  | '&&'
  | '||'
  | '=='
  | '!='
  | 'in'
  | 'not in'
  | 'contains'
  | 'starts with'
  | 'ends with'
  | 'has'
  | 'all'
  | 'global'
  | 'label'
  | 'string'
  | 'end';

const blank = /[ \t]*/y;
const punctuation = /==|!=|&&|\|\||[(){},!]/y;
const quotedString = /"([^"]*)"|'([^']*)'/y;
// An operator word counts only after a label, so that a label may be called `in`; spaces around it may be missing.
const wordOperator = /contains|starts[ \t]*with|ends[ \t]*with|not[ \t]*in|in/y;
const call = /(all|global)\([ \t]*\)|has\([ \t]*([a-zA-Z0-9_./-]+)[ \t]*\)/y;
const callStart = /(?:all|global|has)\(/y;
const label = /[a-zA-Z0-9_./-]+/y;

/** Cuts a selector into tokens; the last one is `end`. Blanks are spaces and tabs only, as in Calico. Throws `SelectorError`. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let position = 0;
  for (;;) {
    position += matchAt(blank, text, position)?.[0].length ?? 0;
    if (position === text.length) {
      tokens.push({ kind: 'end', text: '', position });
      return tokens;
    }
    const { token, length } = tokenAt(text, position, tokens.at(-1)?.kind === 'label');
    tokens.push(token);
    position += length;
  }
}

function tokenAt(text: string, position: number, afterLabel: boolean): { token: Token; length: number } {
  const sign = matchAt(punctuation, text, position)?.[0];
  if (sign !== undefined) {
    return { token: { kind: sign as TokenKind, text: sign, position }, length: sign.length };
  }
  if (afterLabel) {
    const word = matchAt(wordOperator, text, position)?.[0];
    if (word === undefined) {
      const expected = text.charAt(position) === '=' ? '"=="' : 'an operator after a label';
      throw new SelectorError(position, expected, foundAt(text, position));
    }
    const kind = word.replace(/^(starts|ends|not)[ \t]*/, '$1 ') as TokenKind;
    return { token: { kind, text: word, position }, length: word.length };
  }
  const string = matchAt(quotedString, text, position);
  if (string !== undefined) {
    return { token: { kind: 'string', text: string[1] ?? string[2] ?? '', position }, length: string[0].length };
  }
  const term = matchAt(call, text, position);
  if (term !== undefined) {
    const kind = (term[1] ?? 'has') as TokenKind;
    return { token: { kind, text: labelKey(term[2] ?? '', position), position }, length: term[0].length };
  }
  if (matchAt(callStart, text, position) !== undefined) {
    throw new SelectorError(position, 'all(), global() or has(label)', foundAt(text, position));
  }
  const key = matchAt(label, text, position)?.[0];
  if (key === undefined) {
    throw new SelectorError(position, expectedInsteadOf(text.charAt(position)), foundAt(text, position));
  }
  return { token: { kind: 'label', text: labelKey(key, position), position }, length: key.length };
}

function labelKey(key: string, position: number): string {
  if (key.length > maxLabelLength) {
    throw new SelectorError(position, `a label of at most ${maxLabelLength} characters`, `one of ${key.length}`);
  }
  return key;
}

function expectedInsteadOf(character: string): string {
  switch (character) {
    case '&':
      return '"&&"';
    case '|':
      return '"||"';
    case '"':
    case "'":
      return `a closing ${character}`;
    case '\n':
    case '\r':
      return 'the selector on one line';
    default:
      return 'a label, a quoted value or an operator';
  }
}

/** The text that stands there, short, for messages. */
function foundAt(text: string, position: number): string {
  const rest = text.slice(position, position + 20);
  return rest === '' ? 'the end' : JSON.stringify(rest);
}

function matchAt(pattern: RegExp, text: string, position: number): RegExpExecArray | undefined {
  pattern.lastIndex = position;
  return pattern.exec(text) ?? undefined;
}
