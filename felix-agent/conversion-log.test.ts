import { beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { ConversionLog } from './conversion-log.ts';

let lines: { readonly level: number; readonly object: string; readonly msg: string }[];
let log: ConversionLog;

beforeEach(() => {
  lines = [];
  log = new ConversionLog(pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) }));
});

/** The messages of an update, warnings with a `!`. */
function said(problems: Readonly<Record<string, readonly string[]>>): string[] {
  lines = [];
  log.update(new Map(Object.entries(problems)));
  return lines.map(({ level, msg }) => `${level >= 40 ? '! ' : ''}${msg}`);
}

test('a problem is said once, with its object, whatever else changes', () => {
  expect(said({ 'NetworkPolicy a/p': ['port x is unknown'] })).toEqual(['! NetworkPolicy a/p: port x is unknown']);
  expect(lines[0]?.object).toBe('NetworkPolicy a/p');
  expect(said({ 'NetworkPolicy a/p': ['port x is unknown'] })).toEqual([]);
  expect(said({ 'NetworkPolicy a/p': ['port x is unknown'], 'Profile q': ['no'] })).toEqual(['! Profile q: no']);
});

test('another problem of the object is said, and which one is gone', () => {
  said({ p: ['one', 'two'] });
  expect(said({ p: ['two', 'three'] })).toEqual(['! p: three', 'p: no longer so: one']);
});

test('what is gone is said once, and again when it comes back', () => {
  said({ p: ['one', 'one'] });
  expect(said({})).toEqual(['p: no longer so: one']);
  expect(said({})).toEqual([]);
  expect(said({ p: ['one'] })).toEqual(['! p: one']);
});
