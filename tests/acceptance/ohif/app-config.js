// The viewer as a hospital would set it up, less its welcome: no tour and no "investigational use" notice.

// OHIF 3.12.10 stays blank when a style sheet happens to load last: its ONNX chunk then finds no document.currentScript
// and falls back on this name, which browsers do not have.
window.__filename = `${window.location.origin}/app.bundle.js`;

window.config = {
  routerBasename: null,
  extensions: [],
  modes: [],
  customizationService: [{ 'ohif.tours': { $set: [] } }],
  showStudyList: true,
  showLoadingIndicator: true,
  showWarningMessageForCrossOrigin: false,
  showCPUFallbackMessage: false,
  strictZSpacingForVolumeViewport: true,
  investigationalUseDialog: { option: 'never' },
  studyPrefetcher: { enabled: false },
  maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 5 },
  defaultDataSourceName: 'pacs',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'pacs',
      configuration: {
        friendlyName: 'Orthanc',
        name: 'pacs',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/dicom-web',
        qidoSupportsIncludeField: false,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        omitQuotationForMultipartRequest: true,
      },
    },
  ],
};
