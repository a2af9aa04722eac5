// @ts-check
// The photos that one person holds, their decisions, and the answers that the server has not accepted yet.
//
// A decision is made the moment a key is pressed: the next photo, fetched ahead, appears at once. The answer is sent in
// the background, retried until it succeeds, under an id that makes it count once. An undo is sent the same way.

import { clean, pause } from './dom.js';
import { Refused, SignedOut, Unreachable } from './session.js';
import { label, plural, sentence, title } from './words.js';

/**
 * @typedef {import('./dom.js').Box} Box
 * @typedef {{
 *   photo: string, key: string, driver: string, order: string, since: string, scores: Record<string, number>,
 *   box: Box | null, why: string | null, second: boolean,
 * }} Waiting
 * @typedef {{ photo: string, at: string, outcome: string, picture?: HTMLImageElement }} Other A driver's other photo.
 * @typedef {Waiting & {
 *   picture?: Promise<void>, ready?: HTMLImageElement, broken?: string, askedOthers?: boolean, others?: Other[],
 * }} Item A photo in hand, and its picture once that is fetched.
 * @typedef {{ photo: string, key: string, answer: string, id: string, by: string }} Decided
 * @typedef {Decided & { at: number, taken: boolean, second?: boolean, item?: Item, corrects?: string }} Own A decision made
 *   in this tab, or a second opinion, which is not the photo's outcome.
 * @typedef {{ call: 'decide' | 'undo', body: { photo: string, review_id: string, answer?: string, corrects?: string } }} Sent
 * @typedef {{
 *   photos: Waiting[], waiting: number, more: boolean, colleagues: Record<string, number>, decided: number,
 *   seconds: number | null, recent: Decided[], answers: string[], guidelines: string[], undoSeconds: number,
 * }} World The queue as the server describes it.
 * @typedef {{
 *   change: () => void, say: (text: string, bad?: boolean) => void, notice: (text: string) => void,
 *   reached: () => void, trouble: (error: unknown) => void,
 * }} Page The page around the queue.
 */

const IN_HAND = 4; // the photo on screen and the three behind it
const MOST_HELD = 8;
const MOST_SKIPPED = 80;
const RENEW_SECONDS = 45; // a lease ends after two minutes
const EMPTY_SECONDS = 4; // while the queue is empty; more and more rarely if nobody is there
const IDLE_SECONDS = 60;
const AWAY_SECONDS = 300; // then the photos in hand are left to others
const RETRY_SECONDS = 2;
const SLOWEST_RETRY_SECONDS = 30;
const GLANCE_SECONDS = 0.7; // a photo that is decided sooner needs no others beside it
const OUTBOX = 'outbox'; // session storage

const midnight = () => {
  const day = new Date();
  day.setHours(0, 0, 0, 0);
  return day.toISOString();
};

/** @type {World} */
const NOTHING = {
  photos: [],
  waiting: 0,
  more: false,
  colleagues: {},
  decided: 0,
  seconds: null,
  recent: [],
  answers: [],
  guidelines: [],
  undoSeconds: 5,
};

export class Queue {
  /** @type {Item[]} */ hand = []; // the photo on screen first
  /** @type {Own[]} */ mine = []; // latest first
  /** @type {Sent[]} */ outbox = [];
  world = NOTHING;
  looking = false;
  closed = true;
  #session;
  #page;
  /** @type {string[]} */ #skipped = []; // handed out again when nothing else waits
  /** @type {string[]} */ #released = []; // to be given back with the next call
  #sending = false;
  #reached = true;
  #active = Date.now();
  #nextLook = 0;
  #glance = 0;

  /** @param {import('./session.js').Session} session @param {Page} page */
  constructor(session, page) {
    this.#session = session;
    this.#page = page;
  }

  get user() {
    return this.#session.user;
  }

  /** Start for the signed-in person, with the answers that were unsent before a reload. */
  open() {
    const { owner, sent } = JSON.parse(sessionStorage.getItem(OUTBOX) ?? '{"owner": "", "sent": []}');
    const lost = owner === this.user ? 0 : sent.length;
    this.outbox = lost ? [] : sent;
    this.#keep();
    if (lost) {
      this.#page.notice(
        `${owner} left ${plural(lost, 'answer')} unsent in this tab. They do not count; the photos are still in the queue.`,
      );
    }
    this.closed = false;
    this.#send();
    return this.look();
  }

  close() {
    this.closed = true;
    clearTimeout(this.#nextLook);
  }

  // ------------------------------------------------------------------------------------------------------- photos ---

  /** Ask the server for photos and for changes. */
  async look() {
    if (this.looking || this.closed) return;
    this.looking = true;
    try {
      const had = this.hand.map((item) => item.photo);
      const comingBack = this.#comingBack();
      const released = this.#released;
      this.#released = [];
      /** @type {World} */
      const world = await this.#ask('queue', {
        have: had,
        skipped: this.#skipped.slice(-MOST_SKIPPED),
        release: released,
        since: midnight(),
        want: Math.min(MOST_HELD, IN_HAND + this.outbox.length),
      });
      this.world = world;
      // Meanwhile, photos may have been decided, skipped or undone on this page.
      const gone = new Set([...this.mine, ...this.outbox.map((sent) => sent.body)].map((each) => each.photo));
      const held = world.photos.filter((each) => !gone.has(each.photo) && !this.#released.includes(each.photo));
      const isHeld = (/** @type {string} */ photo) => held.some((each) => each.photo === photo);
      const coming = new Set([...comingBack, ...this.#comingBack()]);
      const kept = this.hand.filter(({ photo }) => !had.includes(photo) || isHeld(photo) || coming.has(photo));
      const fresh = held.filter((each) => !kept.some((item) => item.photo === each.photo));
      const before = this.hand;
      this.hand = [...kept, ...fresh].slice(0, IN_HAND);
      for (const item of before) if (!this.hand.includes(item)) forget(item);
      for (const item of this.hand) this.#fetchPicture(item);
    } catch (error) {
      this.#page.trouble(error);
    }
    this.looking = false;
    this.#changed();
    this.#plan();
  }

  /** Note that the person is active; without activity, the queue asks less often. */
  active() {
    const idle = this.#idleSeconds();
    this.#active = Date.now();
    if (idle > IDLE_SECONDS) this.look();
  }

  /** The tab was hidden or became visible again. */
  seen() {
    clearTimeout(this.#nextLook);
    if (!document.hidden) this.look();
  }

  // ----------------------------------------------------------------------------------------------------- deciding ---

  /** @param {string} answer */
  decide(answer) {
    const item = this.hand[0];
    if (this.closed || !item || !(item.ready || item.broken)) return;
    this.hand.shift();
    this.mine.unshift({ ...this.#own(item, answer), item });
    for (const old of this.mine.slice(3)) {
      if (old.item) forget(old.item);
      old.item = undefined;
    }
    this.#skipped = this.#skipped.filter((photo) => photo !== item.photo);
    this.world.waiting = Math.max(0, this.world.waiting - 1);
    this.world.decided++;
    this.#page.say(`${label(answer)}: ${title(item)}`);
    this.#post('decide', { photo: item.photo, answer, review_id: this.mine[0].id });
  }

  /** @param {Decided} decision @param {string} answer */
  correct(decision, answer) {
    const own = { ...this.#own(decision, answer), corrects: decision.id };
    this.mine.unshift(own);
    this.#post('decide', { photo: own.photo, answer, review_id: own.id, corrects: own.corrects });
  }

  /** The decision that can be undone now: the last one, until its seconds are over. */
  get undoable() {
    const last = this.mine.find((own) => !own.corrects);
    return last?.item && this.secondsToUndo(last) > 0 ? last : undefined;
  }

  /** @param {Own} own */
  secondsToUndo(own) {
    return this.world.undoSeconds - (own.taken ? (Date.now() - own.at) / 1000 : 0);
  }

  undo() {
    const decision = this.undoable;
    if (this.closed) return;
    if (!decision?.item) {
      this.#page.say(this.mine.length ? 'Too late to undo. Correct it in the list.' : 'Nothing to undo.', true);
      return;
    }
    const item = decision.item;
    this.mine = this.mine.filter((own) => own !== decision);
    this.world.recent = this.world.recent.filter((each) => each.id !== decision.id);
    this.world.waiting++;
    this.world.decided--;
    this.hand = [item, ...this.hand.filter((each) => each.photo !== item.photo)];
    this.#fetchPicture(item);
    this.#page.say(`Undone: ${title(item)} is back in the queue`);
    this.#post('undo', { photo: item.photo, review_id: decision.id });
  }

  skip() {
    const item = this.hand[0];
    if (this.closed || !item) return;
    this.hand.shift();
    this.#skipped = [...this.#skipped.filter((photo) => photo !== item.photo), item.photo];
    this.#released.push(item.photo);
    forget(item);
    this.#page.say(`Skipped: ${title(item)}`);
    this.#changed();
    this.look();
  }

  // ------------------------------------------------------------------------------------------------------ pictures ---

  /** @param {string} photo @param {string} alt @param {string} [beside] */
  async picture(photo, alt, beside) {
    const image = new Image();
    image.src = URL.createObjectURL(await this.#ask('picture', { photo, beside }, 'blob'));
    image.alt = alt;
    await image.decode();
    return image;
  }

  /** @param {Item} item */
  #fetchPicture(item) {
    item.picture ??= this.picture(item.photo, `The photo${item.driver ? ` of ${title(item)}` : ''}`)
      .then((image) => {
        item.ready = image;
      })
      .catch((error) => {
        item.picture = undefined;
        if (error instanceof Refused && error.status !== 403) item.broken = clean(error.message);
        else this.#page.trouble(error);
      })
      .finally(() => {
        if (this.hand[0] === item) this.#changed();
      });
  }

  /** @param {Item} item */
  async #fetchOthers(item) {
    if (item.askedOthers) return;
    item.askedOthers = true;
    try {
      /** @type {{ photos: Other[] }} */
      const { photos } = await this.#ask('beside', { photo: item.photo });
      item.others = photos;
      this.#page.change();
      for (const other of photos) {
        if (this.hand[0] !== item) return;
        other.picture = await this.picture(other.photo, '', item.photo);
        this.#page.change();
      }
    } catch (error) {
      if (error instanceof SignedOut) this.#page.trouble(error); // otherwise the photo does without them
    }
  }

  // ------------------------------------------------------------------------------------------------------- sending ---

  /** @param {{ photo: string, key: string, second?: boolean }} photo @param {string} answer @returns {Own} */
  #own({ photo, key, second }, answer) {
    return { photo, key, answer, second, id: crypto.randomUUID(), by: this.user, at: Date.now(), taken: false };
  }

  /** The photos that were undone here, and may not be waiting on the server yet. */
  #comingBack() {
    return this.outbox.filter((sent) => sent.call === 'undo').map((sent) => sent.body.photo);
  }

  /** @param {Sent['call']} call @param {Sent['body']} body */
  #post(call, body) {
    this.outbox.push({ call, body });
    this.#keep();
    this.#send();
    this.#changed();
  }

  #keep() {
    sessionStorage.setItem(OUTBOX, JSON.stringify({ owner: this.user, sent: this.outbox }));
  }

  /** Send the answers in order, each until the server has accepted or refused it; then ask for photos. */
  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    try {
      await this.#drain();
    } finally {
      this.#sending = false; // before asking for photos, so answers of that time are sent at once
    }
    if (!this.outbox.length) await this.look();
  }

  async #drain() {
    let wait = RETRY_SECONDS;
    while (this.outbox.length && !this.closed) {
      const { call, body } = this.outbox[0];
      try {
        await this.#ask(call, body);
        wait = RETRY_SECONDS;
        const own = this.mine.find((each) => each.id === body.review_id);
        if (own) Object.assign(own, { taken: true, at: Date.now() });
        this.outbox.shift();
      } catch (error) {
        if (error instanceof Unreachable) {
          this.#page.trouble(error);
          await pause(wait);
          wait = Math.min(2 * wait, SLOWEST_RETRY_SECONDS);
          continue;
        }
        if (!(error instanceof Refused) || error.status === 403) return this.#page.trouble(error);
        this.#refused(call, body, error);
      }
      this.#keep();
      this.#changed();
    }
  }

  /** @param {Sent['call']} call @param {Sent['body']} body @param {Refused} error */
  #refused(call, body, error) {
    this.outbox = this.outbox.filter((sent) => sent.body.review_id !== body.review_id);
    this.mine = this.mine.filter((own) => own.id !== body.review_id);
    if (call === 'undo') this.hand = this.hand.filter((item) => item.photo !== body.photo);
    this.#page.say(call === 'undo' ? sentence(error.message) : `Not accepted: ${error.message}.`, true);
  }

  /** @param {string} call @param {unknown} body @param {'json' | 'blob'} [form] */
  async #ask(call, body, form) {
    try {
      const answer = await this.#session.call(`api/${call}`, body, form);
      this.#reached = true;
      return answer;
    } catch (error) {
      this.#reached = !(error instanceof Unreachable);
      throw error;
    } finally {
      if (this.#reached) this.#page.reached();
    }
  }

  #changed() {
    clearTimeout(this.#glance);
    const item = this.hand[0];
    if (item?.ready && item.driver) this.#glance = setTimeout(() => this.#fetchOthers(item), 1000 * GLANCE_SECONDS);
    this.#page.change();
  }

  #idleSeconds() {
    return (Date.now() - this.#active) / 1000;
  }

  /** Refresh later, unless nobody is watching. */
  #plan() {
    clearTimeout(this.#nextLook);
    const idle = this.#idleSeconds();
    if (this.closed || document.hidden || (this.hand.length && idle > AWAY_SECONDS)) return;
    const rarely = Math.min(IDLE_SECONDS, Math.max(EMPTY_SECONDS, idle / 10));
    this.#nextLook = setTimeout(() => this.look(), 1000 * (this.hand.length && this.#reached ? RENEW_SECONDS : rarely));
  }
}

/** @param {Item} item */
function forget(item) {
  for (const image of [item.ready, ...(item.others ?? []).map((other) => other.picture)]) {
    if (image) URL.revokeObjectURL(image.src);
  }
}
