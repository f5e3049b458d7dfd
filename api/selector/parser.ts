import { inNode, joinNodes, notNode, type SelectorNode } from './ast.ts';
import { SelectorError } from './error.ts';
import { tokenize, type Token, type TokenKind } from './tokens.ts';

/** Deepest nesting of parentheses: what 1024 characters can hold, and far from the end of the stack. */
const maxDepth = 512;

/** The tree of a selector's text; empty text is `all()`. Throws `SelectorError`. */
export function parseTree(text: string): SelectorNode {
  const parser = new Parser(tokenize(text));
  return parser.root();
}

/** Recursive descent: `||` binds weakest, then `&&`, then `!`. */
class Parser {
  readonly #tokens: readonly Token[];
  #index = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  root(): SelectorNode {
    if (this.#peek().kind === 'end') {
      return Object.freeze({ op: 'all' });
    }
    const node = this.#or();
    this.#expect('end', 'an operator ("&&" or "||") or the end');
    return node;
  }

  #or(): SelectorNode {
    const operands = [this.#and()];
    while (this.#accept('||')) {
      operands.push(this.#and());
    }
    return joinNodes('or', operands);
  }

  #and(): SelectorNode {
    const operands = [this.#negation()];
    while (this.#accept('&&')) {
      operands.push(this.#negation());
    }
    return joinNodes('and', operands);
  }

  #negation(): SelectorNode {
    let negated = false;
    while (this.#accept('!')) {
      negated = !negated;
    }
    const term = this.#term();
    return negated ? notNode(term) : term;
  }

  #term(): SelectorNode {
    const token = this.#next();
    switch (token.kind) {
      case 'all':
      case 'global':
        return Object.freeze({ op: token.kind });
      case 'has':
        return Object.freeze({ op: 'has', key: token.text });
      case 'label':
        return this.#comparison(token.text);
      case '(':
        return this.#group(token);
      default:
        throw this.#unexpected(token, 'a label, "has(", "all()", "global()", "!" or "("');
    }
  }

  #group(open: Token): SelectorNode {
    this.#depth += 1;
    if (this.#depth > maxDepth) {
      throw this.#unexpected(open, `at most ${maxDepth} nested parentheses`);
    }
    const node = this.#or();
    this.#expect(')', '"&&", "||" or ")"');
    this.#depth -= 1;
    return node;
  }

  #comparison(key: string): SelectorNode {
    const operator = this.#next();
    switch (operator.kind) {
      case '==':
      case '!=':
      case 'contains':
      case 'starts with':
      case 'ends with':
        return Object.freeze({ op: operator.kind, key, value: this.#expect('string', 'a value in quotes').text });
      case 'in':
      case 'not in':
        return inNode(operator.kind, key, this.#set());
      default:
        throw this.#unexpected(operator, 'an operator after a label');
    }
  }

  /** `{"a", "b"}`. A comma after the last value is allowed, and so is the empty set, as in Calico. */
  #set(): string[] {
    this.#expect('{', '"{"');
    const values: string[] = [];
    while (this.#peek().kind === 'string') {
      values.push(this.#next().text);
      if (!this.#accept(',')) {
        break;
      }
    }
    this.#expect('}', 'a value in quotes or "}"');
    return values;
  }

  #peek(): Token {
    const token = this.#tokens[this.#index];
    if (token === undefined) {
      throw new RangeError('read past the end of the tokens');
    }
    return token;
  }

  #next(): Token {
    const token = this.#peek();
    // The end stays, so that whoever expected more finds it.
    if (token.kind !== 'end') {
      this.#index += 1;
    }
    return token;
  }

  #accept(kind: TokenKind): boolean {
    if (this.#peek().kind !== kind) {
      return false;
    }
    this.#next();
    return true;
  }

  #expect(kind: TokenKind, expected: string): Token {
    const token = this.#next();
    if (token.kind !== kind) {
      throw this.#unexpected(token, expected);
    }
    return token;
  }

  #unexpected(token: Token, expected: string): SelectorError {
    return new SelectorError(token.position, expected, foundText(token));
  }
}

function foundText(token: Token): string {
  switch (token.kind) {
    case 'end':
      return 'the end';
    case 'string':
      return `the value ${JSON.stringify(token.text)}`;
    case 'label':
      return `the label ${token.text}`;
    case 'has':
      return `has(${token.text})`;
    default:
      return JSON.stringify(token.text === '' ? `${token.kind}()` : token.text);
  }
}
