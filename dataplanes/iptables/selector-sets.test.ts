import { describe, expect, it } from '@jest/globals';
import type { Family } from '#native/types.ts';
import type { Ipsets } from '../netfilter/ipsets.ts';
import { SelectorSets } from './selector-sets.ts';

/** What was said to the sets of one family. */
class Recorder {
  readonly members = new Set<string>();

  setSet(): void {}

  setMembers(_name: string, members: readonly string[]): void {
    this.members.clear();
    for (const member of members) this.members.add(member);
  }

  addMember(_name: string, member: string): void {
    this.members.add(member);
  }

  removeMember(_name: string, member: string): void {
    this.members.delete(member);
  }
}

describe('sets of policies', () => {
  const recorders = { 4: new Recorder(), 6: new Recorder() } as const;
  const families = [4, 6] as const satisfies readonly Family[];
  const sets = new SelectorSets(new Map(families.map((family) => [family, recorders[family] as unknown as Ipsets])));
  const members = () => families.map((family) => [...recorders[family].members]);

  it('have each member in the set of its family, with and without ports', () => {
    sets.update('p:x', 'ipPort', ['10.65.0.1,6:80', 'fd65::1,17:53']);
    expect(members()).toEqual([['10.65.0.1,tcp:80'], ['fd65::1,udp:53']]);
    sets.delta('p:x', ['10.65.0.2,132:9', 'fd65::2,6:80'], ['10.65.0.1,6:80', 'fd65::1,17:53']);
    expect(members()).toEqual([['10.65.0.2,sctp:9'], ['fd65::2,tcp:80']]);
    sets.update('s:x', 'net', ['10.65.0.1/32', 'fd65::/64']);
    expect(members()).toEqual([['10.65.0.1'], ['fd65::/64']]);
  });
});
