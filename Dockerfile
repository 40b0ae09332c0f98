# syntax=docker/dockerfile:1
FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Not `npm ci`: the lock file holds the packages of one platform, and this may be another. Scripts later: `prepare` builds.
RUN npm install --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY bin bin
COPY scripts scripts
COPY src src
RUN npm run build
# What only development needs goes, and the embedded PostgreSQL: in a container the database is another server.
RUN npm prune --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/oclif.manifest.json ./
COPY bin/run.js bin/run.js
COPY manifests manifests
COPY docs docs
# So that `kubectl exec … -- feedctl doctor` finds it.
RUN ln -s /app/bin/run.js /usr/local/bin/feedctl
# A number, so that Kubernetes can see that it is not root.
USER 1000:1000
# The process is the first of its container and answers SIGTERM itself: it drains.
ENTRYPOINT ["node", "/app/bin/run.js"]
CMD ["--help"]
