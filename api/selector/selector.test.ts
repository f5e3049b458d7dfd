import { describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import type { SelectorError } from './error.ts';
import { parseSelector } from './selector.ts';

const labels = { role: 'db', 'a/b.c-d_e': 'x', empty: '', in: 'side', starts: 'with' };

describe('a selector', () => {
  test.each([
    ['', true],
    [' \t ', true],
    ['all()', true],
    ['all( )', true],
    ['global()', true],
    ['has(role)', true],
    ['has( role )', true],
    ['has(nope)', false],
    ['has(empty)', true],
    ['!has(role)', false],
    ['! ! has(role)', true],
    ["role == 'db'", true],
    ['role=="db"', true],
    ['role == "web"', false],
    ['nope == ""', false],
    ['empty == ""', true],
    ['role != "db"', false],
    ['role != "web"', true],
    ['nope != "web"', true],
    ['role in {"web", "db"}', true],
    ["role in{'web','db',}", true],
    ['role in {}', false],
    ['nope in {""}', false],
    ['role not in {"web"}', true],
    ['role notin{"db"}', false],
    ['role not \t in {}', true],
    ['nope not in {"web"}', true],
    ['role contains "d"', true],
    ["role contains''", true],
    ['role contains "x"', false],
    ['nope contains ""', false],
    ['role starts with "d"', true],
    ['role startswith "b"', false],
    ['role ends with "b"', true],
    ['role ends  with "d"', false],
    ['nope starts with ""', false],
    ['nope ends with ""', false],
    ['a/b.c-d_e == "x"', true],
    ['in in {"side"}', true],
    ['starts starts with "wi"', true],
    ['has == "x"', false],
    ['has(role) && role == "web"', false],
    ['has(role) || has(nope) && has(nope)', true],
    ['(has(role) || has(nope)) && has(nope)', false],
    ['!(has(nope) || has(other))', true],
    ['!has(nope) && !has(other)', true],
    ['((((has(role)))))', true],
    // What every record inherits is no label.
    ['has(constructor) || has(toString) || has(__proto__)', false],
  ])('%j evaluates to %p', (text, expected) => {
    expect(parseSelector(text).evaluate(labels)).toBe(expected);
    expect(
      parseSelector(text).evaluate(new Map(Object.entries(labels)).get.bind(new Map(Object.entries(labels)))),
    ).toBe(expected);
  });

  test.each([
    ['', 'all()'],
    ["a=='b'", 'a == "b"'],
    ['a == \'say "b"\'', 'a == \'say "b"\''],
    ['((a == "b"))', 'a == "b"'],
    ['!!a != "b"', 'a != "b"'],
    ['!!!has( a )', '!has(a)'],
    ['!(!has(a))', 'has(a)'],
    ['a in {"c","b" , "c"}', 'a in {"b", "c"}'],
    ['a notin {}', 'a not in {}'],
    ['has(a)&&has(b)&&has(c)', '(has(a) && has(b) && has(c))'],
    ['has(a) && (has(b) && has(c))', '(has(a) && has(b) && has(c))'],
    ['has(a) || has(b) && has(c)', '(has(a) || (has(b) && has(c)))'],
    ['!(has(a)||has(b))', '!(has(a) || has(b))'],
    ['a startswith "b"', 'a starts with "b"'],
  ])('%j has the canonical text %j, which parses to itself', (text, canonical) => {
    expect(parseSelector(text).text).toBe(canonical);
    expect(parseSelector(canonical).text).toBe(canonical);
    expect(parseSelector(canonical).tree).toEqual(parseSelector(text).tree);
  });

  test('has an id that depends on its canonical text only', () => {
    const { id } = parseSelector('a == "b"');
    expect(id).toBe(`s:${createHash('sha224').update('s:a == "b"').digest('base64url')}`);
    expect(id).toMatch(/^s:[A-Za-z0-9_-]{38}$/);
    expect(parseSelector(" ( a=='b' ) ").id).toBe(id);
    expect(parseSelector('a == "c"').id).not.toBe(id);
  });

  test('is a frozen tree', () => {
    const { tree } = parseSelector('a in {"b"} && !has(c)');
    expect(tree.op).toBe('and');
    expect(Object.isFrozen(tree)).toBe(true);
    expect(tree.op === 'and' && tree.operands.every((operand) => Object.isFrozen(operand))).toBe(true);
  });
});

describe('text that is no selector', () => {
  test.each([
    ['a', 1, 'an operator after a label', 'the end'],
    ['a b', 2, 'an operator after a label', '"b"'],
    ['a == b', 5, 'a value in quotes', 'the label b'],
    ['a = "b"', 2, '"=="', '"= \\"b\\""'],
    ['has(a) & has(b)', 7, '"&&"', '"& has(b)"'],
    ['has(a) | has(b)', 7, '"||"', '"| has(b)"'],
    ['a == "b', 5, 'a closing "', '"\\"b"'],
    ['has(a', 0, 'all(), global() or has(label)', '"has(a"'],
    ['all(x)', 0, 'all(), global() or has(label)', '"all(x)"'],
    ['(has(a)', 7, '"&&", "||" or ")"', 'the end'],
    ['has(a))', 6, 'an operator ("&&" or "||") or the end', '")"'],
    ['has(a) has(b)', 7, 'an operator ("&&" or "||") or the end', 'has(b)'],
    ['a in "b"', 5, '"{"', 'the value "b"'],
    ['a in {"b" "c"}', 10, 'a value in quotes or "}"', 'the value "c"'],
    ['a in {b}', 6, 'a value in quotes or "}"', 'the label b'],
    ['has(a) &&', 9, 'a label, "has(", "all()", "global()", "!" or "("', 'the end'],
    ['a not "b"', 2, 'an operator after a label', '"not \\"b\\""'],
    ['has(a) &&\nhas(b)', 9, 'the selector on one line', '"\\nhas(b)"'],
    ['é == "b"', 0, 'a label, a quoted value or an operator', '"é == \\"b\\""'],
    [`has(${'x'.repeat(513)})`, 0, 'a label of at most 512 characters', 'one of 513'],
    [`${'('.repeat(600)}has(a)${')'.repeat(600)}`, 512, 'at most 512 nested parentheses', '"("'],
  ])('%j: position %d, expected %s, found %s', (text, position, expected, found) => {
    const error = errorOf(() => parseSelector(text));
    expect(error.code).toBe('bad-selector');
    expect(error.position).toBe(position);
    expect(error.message).toBe(`selector: expected ${expected} at position ${position}, found ${found}`);
  });
});

function errorOf(action: () => unknown): SelectorError {
  try {
    action();
  } catch (error) {
    return error as SelectorError;
  }
  throw new Error('no error was thrown');
}
