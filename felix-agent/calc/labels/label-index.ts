import type { Selector } from '#api/selector/selector.ts';
import { anchorLists, cheapest, mentionedKeys, type Anchor } from './anchors.ts';
import { LabelBuckets } from './label-buckets.ts';

export type LabelRecord = Readonly<Record<string, string>>;

/** Where an object's labels come from: `over`, then its own, then `parents` in this order; the first that has a key decides. */
export interface LabelSources {
  readonly own: LabelRecord;
  /** A layer that the object's own labels can't hide. Its labels never change: the same id always comes with the same. */
  readonly over?: { readonly id: string; readonly labels: LabelRecord };
  /** Ids of layers that `setLayer` gives their labels. */
  readonly parents: readonly string[];
}

/** Told of every pair that begins or ceases to match. May not change the index. */
export interface MatchListener<S, I> {
  started(selector: S, item: I): void;
  stopped(selector: S, item: I): void;
}

/**
 * Which selectors select which objects, kept up to date. Objects inherit labels from layers (namespaces, service accounts, profiles)
 * that many of them share, and a layer is stored and looked up once. A change is judged only against candidates: every selector lies
 * under a label that all it selects must have (its anchors), every object and layer under the labels it has.
 */
export class LabelIndex<S extends object, I extends object> {
  readonly #listener: MatchListener<S, I>;
  readonly #items = new Map<I, Item<I>>();
  readonly #layers = new Map<string, Layer<I>>();
  readonly #selectors = new Map<S, Entry<S, I>>();
  readonly #itemsByLabel = new LabelBuckets<Item<I>>();
  readonly #layersByLabel = new LabelBuckets<Layer<I>>();
  readonly #selectorsByLabel = new LabelBuckets<Entry<S, I>>();
  /** Those whose anchor is a key, whatever its value. */
  readonly #selectorsByKey = new LabelBuckets<Entry<S, I>>();
  readonly #unanchored = new Set<Entry<S, I>>();
  readonly #mentioning = new LabelBuckets<Entry<S, I>>();
  /** Whose labels `#lookup` reads: one closure for all evaluations. */
  #judged: Item<I> | undefined;
  readonly #lookup = (key: string): string | undefined => this.#judged?.label(key);

  constructor(listener: MatchListener<S, I>) {
    this.#listener = listener;
  }

  /** Takes in an object, or its new labels. */
  setItem(object: I, sources: LabelSources): void {
    const known = this.#items.get(object);
    if (known === undefined) {
      const item = new Item(object, sources.own);
      this.#items.set(object, item);
      this.#attach(item, sources);
      this.#itemsByLabel.addAll(sources.own, item);
      this.#findMatches(item, undefined);
      return;
    }
    const changed = changedKeys(known.own, sources.own);
    for (const key of changed) this.#moveItem(known, key, sources.own);
    known.own = sources.own;
    const isElsewhere = known.over?.id !== sources.over?.id || !sameIds(known.parents, sources.parents);
    if (isElsewhere) {
      this.#detach(known);
      this.#attach(known, sources);
    }
    if (isElsewhere || changed.size > 0) this.#recheck(known, isElsewhere ? undefined : changed);
  }

  /** Forgets an object; the listener is told what it matched. */
  removeItem(object: I): void {
    const item = this.#items.get(object);
    if (item === undefined) return;
    for (const entry of item.matches) this.#stop(entry, item);
    this.#itemsByLabel.deleteAll(item.own, item);
    this.#detach(item);
    this.#items.delete(object);
  }

  /** The labels of a layer; undefined takes them away. Objects may refer to a layer before it has any. */
  setLayer(id: string, labels: LabelRecord | undefined): void {
    const layer = this.#layers.get(id) ?? this.#newLayer(id);
    const next = labels ?? noLabels;
    const changed = changedKeys(layer.labels, next);
    this.#layersByLabel.deleteAll(layer.labels, layer);
    layer.labels = next;
    layer.isGiven = labels !== undefined;
    this.#layersByLabel.addAll(next, layer);
    this.#dropUnused(layer);
    if (changed.size === 0 || layer.children.size === 0) return;
    const affected = new Set<Entry<S, I>>();
    for (const key of changed) this.#mentioning.each(key, undefined, (entry) => affected.add(entry));
    if (affected.size === 0) return;
    for (const item of layer.children) {
      if (affected.size > fewSelectors) this.#recheck(item, changed);
      else for (const entry of affected) this.#check(entry, item);
    }
  }

  /** Takes in a selector; the listener is told of each object it selects. The same payload may not be there already. */
  addSelector(payload: S, selector: Selector): void {
    const lists = anchorLists(selector.tree);
    const entry = new Entry<S, I>(payload, selector, cheapest(lists), mentionedKeys(selector.tree));
    this.#selectors.set(payload, entry);
    if (entry.anchors === undefined) this.#unanchored.add(entry);
    for (const { key, value } of entry.anchors ?? []) {
      if (value === undefined) this.#selectorsByKey.add(key, '', entry);
      else this.#selectorsByLabel.add(key, value, entry);
    }
    for (const key of entry.keys) this.#mentioning.add(key, '', entry);
    this.#eachCandidate(lists, (item) => this.#check(entry, item));
  }

  /** Forgets a selector; the listener is not told. */
  removeSelector(payload: S): void {
    const entry = this.#selectors.get(payload);
    if (entry === undefined) return;
    this.#selectors.delete(payload);
    for (const item of entry.items) item.removeMatch(entry);
    this.#unanchored.delete(entry);
    for (const { key, value } of entry.anchors ?? []) {
      if (value === undefined) this.#selectorsByKey.delete(key, '', entry);
      else this.#selectorsByLabel.delete(key, value, entry);
    }
    for (const key of entry.keys) this.#mentioning.delete(key, '', entry);
  }

  /** What selects the object at present. */
  *selectorsOf(object: I): Generator<S> {
    for (const entry of this.#items.get(object)?.matches ?? []) yield (entry as Entry<S, I>).payload;
  }

  /** What the selector selects at present. */
  *itemsOf(payload: S): Generator<I> {
    for (const item of this.#selectors.get(payload)?.items ?? []) yield item.object;
  }

  #recheck(item: Item<I>, changed: ReadonlySet<string> | undefined): void {
    for (const match of item.matches) {
      const entry = match as Entry<S, I>;
      if (entry.isTouchedBy(changed) && !this.#selects(entry, item)) this.#stop(entry, item);
    }
    this.#findMatches(item, changed);
  }

  /** Judges the selectors that may begin to select the item, when these keys (undefined: any) have changed. */
  #findMatches(item: Item<I>, changed: ReadonlySet<string> | undefined): void {
    const judge = (entry: Entry<S, I>) => {
      if (entry.isTouchedBy(changed) && !entry.items.has(item) && this.#selects(entry, item)) this.#start(entry, item);
    };
    for (const labels of item.sources()) {
      for (const [key, value] of Object.entries(labels)) {
        this.#selectorsByLabel.each(key, value, judge);
        this.#selectorsByKey.each(key, undefined, judge);
      }
    }
    for (const entry of this.#unanchored) judge(entry);
  }

  #check(entry: Entry<S, I>, item: Item<I>): void {
    const isMatch = entry.items.has(item);
    if (this.#selects(entry, item) === isMatch) return;
    if (isMatch) this.#stop(entry, item);
    else this.#start(entry, item);
  }

  #selects(entry: Entry<S, I>, item: Item<I>): boolean {
    this.#judged = item;
    return entry.selector.evaluate(this.#lookup);
  }

  #start(entry: Entry<S, I>, item: Item<I>): void {
    entry.items.add(item);
    item.addMatch(entry);
    this.#listener.started(entry.payload, item.object);
  }

  #stop(match: object, item: Item<I>): void {
    const entry = match as Entry<S, I>;
    entry.items.delete(item);
    item.removeMatch(entry);
    this.#listener.stopped(entry.payload, item.object);
  }

  /** Every item that has one label of the list that the fewest items have. */
  #eachCandidate(lists: readonly (readonly Anchor[])[], visit: (item: Item<I>) => void): void {
    let best: readonly Anchor[] | undefined;
    let fewest = this.#items.size;
    for (const list of lists) {
      const count = list.reduce((sum, anchor) => sum + this.#countWith(anchor), 0);
      if (count < fewest) {
        best = list;
        fewest = count;
      }
    }
    if (best === undefined) {
      for (const item of this.#items.values()) visit(item);
      return;
    }
    for (const { key, value } of best) {
      this.#itemsByLabel.each(key, value, visit);
      this.#layersByLabel.each(key, value, (layer) => layer.children.forEach(visit));
    }
  }

  #countWith({ key, value }: Anchor): number {
    let count = this.#itemsByLabel.count(key, value);
    this.#layersByLabel.each(key, value, (layer) => (count += layer.children.size));
    return count;
  }

  #moveItem(item: Item<I>, key: string, next: LabelRecord): void {
    const before = own(item.own, key);
    const after = own(next, key);
    if (before !== undefined) this.#itemsByLabel.delete(key, before, item);
    if (after !== undefined) this.#itemsByLabel.add(key, after, item);
  }

  #attach(item: Item<I>, { over, parents }: LabelSources): void {
    item.over = over === undefined ? undefined : this.#adopt(over.id, item, over.labels);
    item.parents = parents.map((id) => this.#adopt(id, item));
  }

  #adopt(id: string, item: Item<I>, labels?: LabelRecord): Layer<I> {
    const layer = this.#layers.get(id) ?? this.#newLayer(id, labels);
    layer.children.add(item);
    return layer;
  }

  #detach(item: Item<I>): void {
    for (const layer of item.layers()) {
      layer.children.delete(item);
      this.#dropUnused(layer);
    }
  }

  #newLayer(id: string, labels: LabelRecord = noLabels): Layer<I> {
    const layer = new Layer<I>(id, labels);
    this.#layers.set(id, layer);
    this.#layersByLabel.addAll(labels, layer);
    return layer;
  }

  #dropUnused(layer: Layer<I>): void {
    if (layer.isGiven || layer.children.size > 0) return;
    this.#layersByLabel.deleteAll(layer.labels, layer);
    this.#layers.delete(layer.id);
  }
}

/** Up to so many selectors are judged one by one for each object of a layer that has changed. */
const fewSelectors = 16;
const noLabels: LabelRecord = {};
const noMatches: ReadonlySet<never> = new Set();

class Layer<I> {
  readonly id: string;
  readonly children = new Set<Item<I>>();
  labels: LabelRecord;
  /** False while it is only referred to. */
  isGiven = false;

  constructor(id: string, labels: LabelRecord) {
    this.id = id;
    this.labels = labels;
  }
}

class Item<I> {
  readonly object: I;
  own: LabelRecord;
  over: Layer<I> | undefined;
  parents: readonly Layer<I>[] = [];
  /** Entries; made only when there is one. */
  #matches: Set<object> | undefined;

  constructor(object: I, labels: LabelRecord) {
    this.object = object;
    this.own = labels;
  }

  get matches(): ReadonlySet<object> {
    return this.#matches ?? noMatches;
  }

  addMatch(entry: object): void {
    (this.#matches ??= new Set()).add(entry);
  }

  removeMatch(entry: object): void {
    this.#matches?.delete(entry);
  }

  label(key: string): string | undefined {
    const first = (this.over === undefined ? undefined : own(this.over.labels, key)) ?? own(this.own, key);
    if (first !== undefined) return first;
    for (const { labels } of this.parents) {
      const value = own(labels, key);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  layers(): readonly Layer<I>[] {
    return this.over === undefined ? this.parents : [this.over, ...this.parents];
  }

  sources(): readonly LabelRecord[] {
    return [this.own, ...this.layers().map(({ labels }) => labels)];
  }
}

class Entry<S, I> {
  readonly payload: S;
  readonly selector: Selector;
  readonly anchors: readonly Anchor[] | undefined;
  readonly keys: ReadonlySet<string>;
  readonly items = new Set<Item<I>>();

  constructor(payload: S, selector: Selector, anchors: readonly Anchor[] | undefined, keys: ReadonlySet<string>) {
    this.payload = payload;
    this.selector = selector;
    this.anchors = anchors;
    this.keys = keys;
  }

  /** Can a change of these labels (undefined: of any) change what it selects? */
  isTouchedBy(changed: ReadonlySet<string> | undefined): boolean {
    if (changed === undefined) return true;
    for (const key of changed) if (this.keys.has(key)) return true;
    return false;
  }
}

/** A label, but not what every JavaScript object inherits (`constructor`). */
function own(labels: LabelRecord, key: string): string | undefined {
  const value: unknown = labels[key];
  return typeof value === 'string' ? value : undefined;
}

function changedKeys(before: LabelRecord, after: LabelRecord): ReadonlySet<string> {
  const changed = new Set<string>();
  if (before === after) return changed;
  for (const key of Object.keys(before)) if (before[key] !== own(after, key)) changed.add(key);
  for (const key of Object.keys(after)) if (own(before, key) === undefined) changed.add(key);
  return changed;
}

function sameIds<I>(layers: readonly Layer<I>[], ids: readonly string[]): boolean {
  return layers.length === ids.length && layers.every(({ id }, index) => id === ids[index]);
}
