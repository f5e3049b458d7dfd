import { beforeEach, expect, test } from '@jest/globals';
import type { Link, NetlinkEvent } from '#native/types.ts';
import { PodLinks } from './pod-links.ts';

const link = (index: number, name: string): Link => ({ index, name }) as Link;
const event = (type: 'link.new' | 'link.del', about: Link): NetlinkEvent => ({ type, link: about });

let kernel: Map<string, Link>;
let asked: string[];
let links: PodLinks;

beforeEach(() => {
  kernel = new Map([['cali1', link(7, 'cali1')]]);
  asked = [];
  links = new PodLinks({
    link: (name) => {
      asked.push(String(name));
      return kernel.get(String(name));
    },
  });
  links.find('cali1');
});

test('a device is asked for once', () => {
  expect(links.find('cali1')).toEqual(link(7, 'cali1'));
  expect(asked).toEqual(['cali1']);
});

test.each<[string, () => void]>([
  ['it is gone', () => links.follow(event('link.del', link(7, 'cali1')))],
  ['it is another one', () => links.follow(event('link.new', link(8, 'cali1')))],
  ['it has another name', () => links.follow(event('link.new', link(7, 'other')))],
  ['events were lost', () => links.follow({ type: 'overrun' })],
  ['somebody could not work with it', () => links.forget('cali1')],
  ['all is compared', () => links.clear()],
])('and again when %s', (_, what) => {
  what();
  kernel.set('cali1', link(8, 'cali1'));
  expect(links.find('cali1')).toEqual(link(8, 'cali1'));
  expect(asked).toHaveLength(2);
});

test('one that is not there is asked for each time', () => {
  expect(links.find('cali2')).toBeUndefined();
  kernel.set('cali2', link(9, 'cali2'));
  expect(links.find('cali2')).toEqual(link(9, 'cali2'));
});

test('events about others change nothing', () => {
  links.follow(event('link.new', link(9, 'eth0')));
  links.follow(event('link.del', link(9, 'eth0')));
  expect(links.find('cali1')).toEqual(link(7, 'cali1'));
  expect(asked).toHaveLength(1);
});
