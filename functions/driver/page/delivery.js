// @ts-check
// Sends a photo to the server and fetches its outcome; both are retried until they succeed, and nothing is sent twice.

import { pause } from './dom.js';
import { Refused, reach, Unreachable } from './session.js';

/**
 * @typedef {import('./session.js').Session} Session
 * @typedef {{
 *   id: string, at: string, status: 'waiting' | 'routed' | 'review' | 'retake' | 'failed', order?: string, bay?: string,
 *   orders?: string, reason_code?: string, box?: import('./dom.js').Box,
 * }} Outcome
 * @typedef {{ id: string, url: string, fields: Record<string, string>, ends: number }} Form
 */

const TYPES = ['image/jpeg', 'image/png', 'image/webp', 'image/heic', 'image/avif'];
const LONGEST_SIDE = 2048; // pixels; more than the model or a person needs
const MANY_BYTES = 3_000_000;
const QUALITY = 0.85;
const FORM_MS = 240_000; // a signed upload is valid for five minutes; the phone's clock may be wrong
const UPLOAD_MS = 120_000;
const SLOWEST_SECONDS = 15;

/**
 * Reduce a huge photo. A photo that the browser cannot read stays as it is: the server reads more formats.
 *
 * @param {File} file
 * @returns {Promise<Blob>}
 */
export async function reduced(file) {
  try {
    const image = await createImageBitmap(file, { imageOrientation: 'from-image' });
    const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
    if (scale === 1 && file.size <= MANY_BYTES && TYPES.includes(file.type)) return file;
    const canvas = new OffscreenCanvas(Math.round(scale * image.width), Math.round(scale * image.height));
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await canvas.convertToBlob({ type: 'image/jpeg', quality: QUALITY });
  } catch {
    return file;
  }
}

/**
 * Send a photo; return its id. After a lost answer, first ask the server whether the photo has arrived; if not, send it
 * to the same key again. An expired form is replaced only if no photo has arrived with it.
 *
 * @param {Session} session
 * @param {Blob} photo
 * @param {string} order
 * @param {(error: unknown) => void} trouble Called after every failed attempt.
 * @throws {Refused}
 */
export async function send(session, photo, order, trouble) {
  /** @type {Form | undefined} */
  let form;
  for (let wait = 1; ; wait = Math.min(2 * wait, SLOWEST_SECONDS)) {
    try {
      if (form && (await arrived(session, form.id))) return form.id;
      if (!form || Date.now() > form.ends) {
        const content_type = TYPES.includes(photo.type) ? photo.type : 'image/jpeg';
        const signed = await session.call('/uploads', order ? { content_type, order } : { content_type });
        form = { ...signed, ends: Date.now() + FORM_MS };
      }
      await post(/** @type {Form} */ (form), photo);
      return /** @type {Form} */ (form).id;
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      trouble(error);
      await pause(wait);
    }
  }
}

/**
 * Show a photo's outcome until it is final, or until `show` returns false.
 *
 * @param {Session} session
 * @param {string} id
 * @param {(outcome: Outcome) => boolean} show Returns whether to continue.
 * @param {(error: unknown) => void} trouble
 */
export async function follow(session, id, show, trouble) {
  for (let wait = 1; ; wait = Math.min(1.3 * wait, SLOWEST_SECONDS)) {
    try {
      if (!show(await session.call(`/photos/${encodeURIComponent(id)}`))) return;
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      trouble(error);
    }
    await pause(wait);
  }
}

/** @param {Session} session @param {string} id */
async function arrived(session, id) {
  try {
    await session.call(`/photos/${encodeURIComponent(id)}`);
    return true;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return false;
    throw error;
  }
}

/** @param {Form} form @param {Blob} photo */
async function post(form, photo) {
  const body = new FormData();
  for (const [name, value] of Object.entries(form.fields)) body.append(name, value);
  body.append('file', photo);
  const answer = await reach(form.url, { method: 'POST', body }, UPLOAD_MS);
  if (answer.ok) return;
  if (answer.status === 403) {
    form.ends = 0; // expired early
    throw new Unreachable();
  }
  throw new Refused(answer.status, (await answer.text()).includes('EntityTooLarge') ? 'TOO_LARGE' : 'UNREADABLE');
}
