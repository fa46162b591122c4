// Signs users in: POST /auth/login gives a token (HS256), GET /auth/check accepts it.
"use strict";
const crypto = require("crypto");
const { Pool } = require("pg");
const { eventually, serve } = require("./web");

const SECRET = process.env.JWT_SECRET;
const pool = new Pool({ connectionString: process.env.DATABASE_URL });
pool.on("error", (error) => console.error(`database: ${error.message}`));

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const signed = (text) => crypto.createHmac("sha256", SECRET).update(text).digest("base64url");

async function login({ name }) {
  if (!name) return [400, { error: "name is missing" }];
  await pool.query("INSERT INTO logins (name) VALUES ($1)", [name]);
  const text = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ sub: name })}`;
  return { token: `${text}.${signed(text)}` };
}

async function check(body, request) {
  const token = (request.headers.authorization || "").replace(/^Bearer /, "");
  const [head, claims, signature = ""] = token.split(".");
  const expected = Buffer.from(signed(`${head}.${claims}`));
  const given = Buffer.from(signature);
  const isValid = given.length === expected.length && crypto.timingSafeEqual(given, expected);
  return isValid ? JSON.parse(Buffer.from(claims, "base64url")) : [401, { error: "not signed in" }];
}

eventually("database", () => pool.query("CREATE TABLE IF NOT EXISTS logins (name text)"))
  .then(() => serve({ "POST /auth/login": login, "GET /auth/check": check }));
